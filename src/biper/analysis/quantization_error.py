r"""How far the wave is from its signs: measured, and in closed form for Laplace weights.

With ``θ = ω w`` the phase of a weight, ``s = sin θ`` and ``q`` its sign, two errors are in use:

=====================  ===================================  ============================================
error                  measured                             for Laplace weights of diversity b
=====================  ===================================  ============================================
quantization error     ``mean |s - q| = 1 - mean |s|``      ``1 - γ``
scaled error           ``mean (s - γ q)²``, best ``γ``      ``QE(ω) = E sin² - γ²``
=====================  ===================================  ============================================

``γ = E|sin ωw| = ωb / (1 + ω²b²) coth(π / (2ωb))`` is the scale of the signs that fits the wave best, and
``E sin² = 2ω²b² / (1 + 4ω²b²)``. Both depend on the product ``ωb`` alone, the diversity of the phase.

Source: Vargas et al., CVPR 2024, section 3; the authors' code prints the first error, summed over layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biper.errors import ModelError
from biper.nn import periodic_weights
from biper.quantizers import sign

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
            phase = quantizer.frequency * weight
            wave = torch.sin(phase)
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
    return [
        CurvePoint(ω, 1 - _mean(torch.sin(ω * flat).abs()), laplace_error(max(ω * diversity, 1e-12)))
        for ω in frequencies
    ]


def laplace_scale(product: float) -> float:
    """``γ = E|sin ωw| = ωb / (1 + ω²b²) coth(π / (2ωb))`` for Laplace weights, from the product ``ωb`` in radians.

    Rises from 0 (as ``ωb``) to ``2 / π``.

    Raises:
        ModelError: the product is not a positive finite number.
    """
    if not 0 < product < math.inf:
        raise ModelError(f"frequency times diversity must be a positive finite number, got {product!r}")
    return product / (1 + product**2) / math.tanh(math.pi / (2 * product))


def laplace_error(product: float) -> float:
    """``E|sin ωw - q(w)| = 1 - γ`` for Laplace weights, from ``ωb`` as in `laplace_scale`: from 1 to ``1 - 2 / π``."""
    return 1 - laplace_scale(product)


def laplace_scaled_error(product: float) -> float:
    """``QE(ω) = E sin² - γ²`` for Laplace weights, from ``ωb`` as in `laplace_scale`: from 0 to ``1/2 - 4 / π²``."""
    return 2 * product**2 / (1 + 4 * product**2) - laplace_scale(product) ** 2


def _mean(values: Tensor) -> float:
    return values.mean(dtype=torch.float64).item()
