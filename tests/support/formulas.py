"""The method's formulas in plain torch, differentiated by autograd: what layers and networks are compared to."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_sign(x: Tensor, surrogate: Tensor) -> Tensor:
    """Forward the sign of x, backward through ``surrogate``."""
    return surrogate + (torch.where(x >= 0, 1.0, -1.0).to(x.dtype) - surrogate).detach()


def plain_input_bits(x: Tensor) -> Tensor:
    """Signs of the input divided by its per-sample standard deviation, differentiated as a piecewise parabola."""
    x = x / torch.sqrt(x.var(tuple(range(1, x.dim())), keepdim=True) + 1e-5)
    inside = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return plain_sign(x, torch.where(x.abs() < 1, inside, x.detach()))


def plain_weight(weight: Tensor, stage: int) -> Tensor:
    """The sine of the latent weight, and in stage 2 its sign; frequency 20."""
    wave = torch.sin(20 * weight)
    return plain_sign(wave, wave) if stage == 2 else wave
