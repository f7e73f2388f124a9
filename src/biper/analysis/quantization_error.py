"""How far the wave is from its signs."""

from __future__ import annotations

import torch
from torch import nn

from biper.nn import periodic_weights
from biper.quantizers import sign


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
