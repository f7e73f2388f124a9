"""How far real weights are from their signs."""

from __future__ import annotations

import torch
from torch import nn

from biper.nn import binary_layers, periodic_weights
from biper.quantizers import Quantizer, sign


def quantization_errors(model: nn.Module) -> dict[str, float]:
    """``mean |sin(ω w) - q(w)|`` of each periodic layer, by its qualified name; 0 (all on the signs) to 1.

    Source: Vargas et al., CVPR 2024; the authors' code prints the sum over layers.
    """
    errors = {}
    with torch.no_grad():
        for name, (weight, quantizer) in periodic_weights(model).items():
            wave = quantizer.real(weight)
            errors[name] = (wave - sign(wave)).abs().mean().item()
    return errors


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
            v = quantizer.real(layer.weight) if isinstance(quantizer, Quantizer) else layer.weight
            energy = v.square().mean().item()
            errors[name] = 1 - v.abs().mean().item() ** 2 / energy if energy > 0 else 0.0
    return errors
