r"""The quantization error of periodic layers: measured, and in closed form for Laplace and for normal weights.

Two errors are in use. Below, ``φ = ω w`` is the phase of a weight, ``s = sin φ``, and ``q`` is the sign of ``s``.

=====================  ===================================  ============================================
error                  measured                             in closed form
=====================  ===================================  ============================================
quantization error     ``mean |s - q| = 1 - mean |s|``      ``1 - γ``
scaled error           ``mean (s - γ q)²``, best ``γ``      ``QE(ω) = E sin² - γ²``
=====================  ===================================  ============================================

``γ`` is the scale of the signs that fits the wave best. `biper.methods.closed_form` computes the closed forms. For
Laplace weights they depend only on the product ``ωb``, the diversity of the phase, and for normal weights only on its
standard deviation σ.

Source: Vargas et al., CVPR 2024, section 3. The code of the authors prints the first error, summed over layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biper.methods.closed_form import laplace_error, laplace_scaled_error, normal_error, normal_scaled_error
from biper.nn import binary_layers, periodic_weights
from biper.quantizers import Quantizer, sign

CURVE_WEIGHTS = 20_000
"""A curve is measured on at most this many weights; of a larger layer, on every n-th weight."""


@dataclass(frozen=True)
class ErrorRow:
    """The errors of one periodic layer, and those of Laplace and of normal weights that fit it.

    Attributes:
        layer: qualified name.
        weights: how many latent weights the layer has.
        frequency: ω, in radians per unit of weight; the mean where output channels have their own.
        phase_diversity: ``ωb = mean |ω w|``, in radians: the maximum-likelihood fit of a Laplace distribution about 0.
        quantization_error: ``mean |s - q|``, from 0 (the wave is ±1 at every weight) to 1.
        predicted_error: ``1 - γ`` for the fitted ``ωb``.
        scaled_error: ``mean (s - γ q)²`` with the best scale ``γ = mean |s|``.
        predicted_scaled_error: ``QE(ω)`` for the fitted ``ωb``.
        phase_deviation: ``σ = sqrt(mean φ²)``, in radians: the maximum-likelihood fit of a normal distribution about 0.
        predicted_normal_error: ``1 - γ`` of normal weights for the fitted σ.
        predicted_normal_scaled_error: ``QE`` of normal weights for the fitted σ.
        sign_angle: the angle between the vectors ``s`` and ``q``, in degrees: ``cos = mean |s| / sqrt(mean s²)``. The
            switch from stage 1 to stage 2 turns the weights of the layer by this angle.
    """

    layer: str
    weights: int
    frequency: float
    phase_diversity: float
    quantization_error: float
    predicted_error: float
    scaled_error: float
    predicted_scaled_error: float
    phase_deviation: float
    predicted_normal_error: float
    predicted_normal_scaled_error: float
    sign_angle: float


@dataclass(frozen=True)
class CurvePoint:
    """The quantization error that weights would have at one frequency.

    Attributes:
        frequency: ω, in radians per unit of weight.
        measured: ``mean |s - q|``.
        predicted: ``1 - γ`` for Laplace weights.
        predicted_normal: ``1 - γ`` for normal weights.
    """

    frequency: float
    measured: float
    predicted: float
    predicted_normal: float


def error_rows(model: nn.Module) -> list[ErrorRow]:
    """Measure the errors of every periodic layer of a model, in the order of its layers."""
    rows = []
    with torch.no_grad():
        for name, (weight, quantizer) in periodic_weights(model).items():
            phase, wave = quantizer.phase(weight), quantizer.sign_argument(weight)
            magnitude, power, diversity = (_mean(x) for x in (wave.abs(), wave.square(), phase.abs()))
            deviation = math.sqrt(_mean(phase.square()))
            rows.append(
                ErrorRow(
                    layer=name,
                    weights=weight.numel(),
                    frequency=_mean(quantizer.frequency_of(weight)),
                    phase_diversity=diversity,
                    quantization_error=_mean((wave - sign(wave)).abs()),
                    predicted_error=laplace_error(diversity),
                    scaled_error=max(power - magnitude**2, 0.0),
                    predicted_scaled_error=laplace_scaled_error(diversity),
                    phase_deviation=deviation,
                    predicted_normal_error=normal_error(deviation),
                    predicted_normal_scaled_error=normal_scaled_error(deviation),
                    sign_angle=math.degrees(math.acos(min(magnitude / math.sqrt(power), 1.0))) if power else 0.0,
                )
            )
    return rows


def quantization_errors(model: nn.Module) -> dict[str, float]:
    """The quantization error ``mean |sin(ω w) - q(w)|`` of each periodic layer.

    ``w`` are the latent weights of the layer, ``ω`` is its frequency, and ``q(w)`` is +1 where the sine is not negative
    and -1 elsewhere.

    Args:
        model: a model with periodic layers; other layers are left out.

    Returns:
        The error of each layer by its qualified name, from 0 (the sine is ±1 at every weight) to 1.

    Source: Vargas et al., CVPR 2024, arXiv 2404.01278.
    """
    return {row.layer: row.quantization_error for row in error_rows(model)}


def error_curve(weight: Tensor, frequencies: Sequence[float]) -> list[CurvePoint]:
    """The quantization error that the weights of a layer would have at other frequencies.

    Args:
        weight: latent weights of any shape; of more than `CURVE_WEIGHTS`, every n-th is taken.
        frequencies: positive numbers, in radians per unit of weight.
    """
    flat = weight.detach().flatten()
    flat = flat[:: -(-len(flat) // CURVE_WEIGHTS)].double()
    diversity, deviation = _mean(flat.abs()), math.sqrt(_mean(flat.square()))
    return [
        CurvePoint(ω, 1 - _mean(torch.sin(ω * flat).abs()), laplace_error(ω * diversity), normal_error(ω * deviation))
        for ω in frequencies
    ]


def relative_errors(model: nn.Module) -> dict[str, float]:
    """The share of energy that the weight of each binary layer loses to one bit.

    ``v`` is the real tensor whose signs the layer takes: a wave of the latent weight, the weight itself, or the
    standardized weight, depending on the method. With the best scale γ of the signs, the error is
    ``mean (v - γ sign(v))² / mean v² = 1 - (mean |v|)² / mean v²``, one minus the squared cosine of the angle between
    ``v`` and its signs. The error has no unit, so that different methods can be compared. Means are over a layer.

    Returns:
        The error of each layer by its qualified name, 0 to 1.
    """
    errors = {}
    with torch.no_grad():
        for name, layer in binary_layers(model).items():
            quantizer = layer.weight_quantizer
            v = quantizer.sign_argument(layer.weight) if isinstance(quantizer, Quantizer) else layer.weight
            energy = v.square().mean().item()
            errors[name] = 1 - v.abs().mean().item() ** 2 / energy if energy > 0 else 0.0
    return errors


def _mean(values: Tensor) -> float:
    """The mean, computed in float64."""
    return values.mean(dtype=torch.float64).item()
