"""Regularizers on latent weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biper.nn import periodic_weights


def periodic_penalty(model: nn.Module, strength: float) -> Tensor:
    r"""The regularizer of BiPer: ``strength * sum over binary layers of mean sin²(ω w)``.

    The mean is over all latent weights of a layer, ω is the layer's own frequency. Its gradient by a weight
    is ``strength * ω sin(2 ω w) / n``. Layers whose weight quantizer is not a `PeriodicSign` add nothing.

    Args:
        model: any module.
        strength: τ, dimensionless; 0 switches the penalty off.

    Returns:
        A scalar in the dtype of the weights (a float32 zero for a model without periodic layers).

    Source: Vargas et al., CVPR 2024, and the authors' published training code.
    """
    weights = periodic_weights(model).values()
    if not weights or strength == 0:
        return torch.zeros(())
    means = [torch.sin(quantizer.phase(weight)).square().mean() for weight, quantizer in weights]
    return strength * torch.stack(means).sum()
