"""How far the wave is from its signs."""

from __future__ import annotations

import torch
from torch import nn

from biper.nn import periodic_layers
from biper.quantizers import sign


def quantization_errors(model: nn.Module) -> dict[str, float]:
    """``mean |sin(ω w) - q(w)|`` of each periodic layer, by its qualified name; 0 (all on the signs) to 1.

    Source: Vargas et al., CVPR 2024; the authors' code prints the sum over layers.
    """
    errors = {}
    with torch.no_grad():
        for name, layer in periodic_layers(model).items():
            wave = torch.sin(layer.weight_quantizer.frequency * layer.weight)
            errors[name] = (wave - sign(wave)).abs().mean().item()
    return errors
