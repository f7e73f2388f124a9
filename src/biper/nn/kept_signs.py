"""Frequencies with which the periodic function gives latent weights their own sign."""

from __future__ import annotations

import math

import torch
from torch import nn

from biper.nn.latent import LatentWeightLayer
from biper.nn.walk import binary_layers
from biper.quantizers import PeriodicSign, Quantizer, TunedPeriodicSign, sign

LARGEST_PHASE = 3.0
"""The phase, in radians, that the frequency gives to the quantile of the weights: below π, with room for rounding."""

INSIDE = 0.999
"""The share of a layer's weights whose phase is at most `LARGEST_PHASE`."""


def keep_signs_(model: nn.Module) -> dict[str, float]:
    r"""Set the frequency of each periodic layer such that the signs of its weights survive, in place.

    The binary value of a weight, the sign of ``sin(ω w)``, is the sign of ``w`` for ``|ω w| < π``. With ``q`` the
    99.9 % quantile of ``|w|`` over the layer, this function sets

        ω = 3 / q

    so that at least 99.9 % of the weights keep their sign, while they spread over as much of the half wave as they can.
    Call it for float weights that were trained without the wave, before stage ``"relaxed"``. A layer of zeros keeps its
    ω. Learned factors of ω are taken into account, and scheduled frequencies start from the new ω.

    Args:
        model: any module with binary layers. Layers whose weight quantizer is not a `PeriodicSign` are only measured.

    Returns:
        For each binary layer, by qualified name: the share of its weights whose binary value has their own sign, 0 to
        1. The sign of zero is +1.
    """
    for layer in binary_layers(model).values():
        set_frequency_to_keep_signs_(layer)
    return kept_signs(model)


def kept_signs(model: nn.Module) -> dict[str, float]:
    """Measure the share of weights whose binary value has the sign of the latent weight, as `keep_signs_` returns it.

    Args:
        model: any module with binary layers; it is not changed.
    """
    shares = {}
    with torch.no_grad():
        for name, layer in binary_layers(model).items():
            quantizer, weight = layer.weight_quantizer, layer.weight
            argument = quantizer.sign_argument(weight) if isinstance(quantizer, Quantizer) else quantizer(weight)
            shares[name] = (sign(argument) == sign(weight)).double().mean().item()
    return shares


def set_frequency_to_keep_signs_(layer: LatentWeightLayer) -> None:
    """Set the frequency of one layer as `keep_signs_` does for a model; layers without a wave stay as they are."""
    quantizer = layer.weight_quantizer
    if not isinstance(quantizer, PeriodicSign):
        return
    with torch.no_grad():
        phases = quantizer.phase(layer.weight).abs().flatten().double()
        largest = phases.kthvalue(math.ceil(INSIDE * len(phases))).values.item()
    if not 0 < largest < math.inf:
        return
    frequency = quantizer.frequency * LARGEST_PHASE / largest
    if isinstance(quantizer, TunedPeriodicSign):
        quantizer.set_start_frequency(frequency)
    else:
        quantizer.frequency = frequency
