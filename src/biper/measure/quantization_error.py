r"""How far the wave is from its signs: measured, and in closed form for Laplace weights.

With ``θ = ω w`` the phase of a weight, ``s = sin θ`` and ``q`` its sign, two errors are in use:

=====================  ===================================  ============================================
error                  measured                             for Laplace weights of diversity b
=====================  ===================================  ============================================
quantization error     ``mean |s - q| = 1 - mean |s|``      ``1 - γ``
scaled error           ``mean (s - γ q)²``, best ``γ``      ``QE(ω) = E sin² - γ²``
=====================  ===================================  ============================================

``γ`` is the scale of the signs that fits the wave best; the closed forms are those of
`biper.methods.closed_form`. They depend on the product ``ωb`` alone, the diversity of the phase.

Source: Vargas et al., CVPR 2024, section 3; the authors' code prints the first error, summed over layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biper.methods.closed_form import laplace_error, laplace_scaled_error
from biper.nn import binary_layers, periodic_weights
from biper.quantizers import Quantizer, sign

CURVE_WEIGHTS = 20_000
"""Most weights that a curve is measured on: of a larger layer every n-th."""


@dataclass(frozen=True)
class ErrorRow:
    """The errors of one periodic layer, and what Laplace weights of the same mean magnitude would have.

    Attributes:
        layer: qualified name.
        weights: how many latent weights.
        frequency: ω, in radians per unit of weight.
        phase_diversity: ``ωb = mean |ω w|``, in radians: the maximum-likelihood fit of a Laplace distribution about 0.
        quantization_error: ``mean |s - q|``, 0 (all on the signs) to 1.
        predicted_error: ``1 - γ`` for the fitted ``ωb``.
        scaled_error: ``mean (s - γ q)²`` with the best scale ``γ = mean |s|``.
        predicted_scaled_error: ``QE(ω)`` for the fitted ``ωb``.
        sign_angle: between the vectors ``s`` and ``q``, in degrees: ``cos = mean |s| / sqrt(mean s²)``. It is what
            the switch to stage 2 turns the weights by.
    """

    layer: str
    weights: int
    frequency: float
    phase_diversity: float
    quantization_error: float
    predicted_error: float
    scaled_error: float
    predicted_scaled_error: float
    sign_angle: float


@dataclass(frozen=True)
class CurvePoint:
    """The quantization error of the same weights at one frequency: ``mean |s - q|``, and ``1 - γ``."""

    frequency: float
    measured: float
    predicted: float


def error_table(model: nn.Module) -> list[ErrorRow]:
    """The errors of every periodic layer of a model, in the order of its layers."""
    rows = []
    with torch.no_grad():
        for name, (weight, quantizer) in periodic_weights(model).items():
            phase, wave = quantizer.phase(weight), quantizer.sign_argument(weight)
            magnitude, power, diversity = (_mean(x) for x in (wave.abs(), wave.square(), phase.abs()))
            rows.append(
                ErrorRow(
                    layer=name,
                    weights=weight.numel(),
                    frequency=quantizer.frequency,
                    phase_diversity=diversity,
                    quantization_error=_mean((wave - sign(wave)).abs()),
                    predicted_error=laplace_error(diversity),
                    scaled_error=max(power - magnitude**2, 0.0),
                    predicted_scaled_error=laplace_scaled_error(diversity),
                    sign_angle=math.degrees(math.acos(min(magnitude / math.sqrt(power), 1.0))) if power else 0.0,
                )
            )
    return rows


def quantization_errors(model: nn.Module) -> dict[str, float]:
    """``mean |sin(ω w) - q(w)|`` of each periodic layer, by its qualified name; 0 (all on the signs) to 1."""
    return {row.layer: row.quantization_error for row in error_table(model)}


def error_curve(weight: Tensor, frequencies: Sequence[float]) -> list[CurvePoint]:
    """The quantization error that a layer's weights would have at other frequencies.

    Args:
        weight: latent weights of any shape; of more than `CURVE_WEIGHTS` every n-th is taken.
        frequencies: positive, in radians per unit of weight.
    """
    flat = weight.detach().flatten()
    flat = flat[:: -(-len(flat) // CURVE_WEIGHTS)].double()
    diversity = _mean(flat.abs())
    return [CurvePoint(ω, 1 - _mean(torch.sin(ω * flat).abs()), laplace_error(ω * diversity)) for ω in frequencies]


def relative_errors(model: nn.Module) -> dict[str, float]:
    """The share of its energy that each binary layer's weight loses to one bit, by the layer's name; 0 to 1.

    With ``v`` the real tensor whose signs the layer takes (a wave of the latent weight, the weight itself, or the
    standardized weight, as its method has it) and γ the best scale of the signs, ``mean (v - γ sign(v))² / mean v² =
    1 - (mean |v|)² / mean v²``: one minus the squared cosine of the angle between ``v`` and its signs. It has no unit,
    so that methods can be compared by it. The mean is over a layer.
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
    return values.mean(dtype=torch.float64).item()
