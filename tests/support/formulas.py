"""The formulas of the method in plain torch, differentiated by autograd, and the gradient of any module."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gradient_of(module: nn.Module, x: Tensor, upstream: Tensor | None = None) -> Tensor:
    """Compute the gradient of a module by its input, for an incoming gradient that is one by default."""
    x = x.detach().requires_grad_()
    y = module(x)
    (result,) = torch.autograd.grad(y, x, torch.ones_like(y) if upstream is None else upstream)
    return result


def plain_sign(x: Tensor, surrogate: Tensor) -> Tensor:
    """Compute the sign of x, with the gradient of ``surrogate``."""
    return surrogate + (torch.where(x >= 0, 1.0, -1.0).to(x.dtype) - surrogate).detach()


def approx_surrogate(x: Tensor) -> Tensor:
    """Compute the piecewise polynomial whose derivative is ``max(0, 2 - 2|x|)``; its gradient is 0 from |x| = 1 on."""
    inside = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return torch.where(x.abs() < 1, inside, x.detach())


def plain_input_bits(x: Tensor) -> Tensor:
    """Compute the signs of the input divided by its per-sample standard deviation, with the gradient of ApproxSign."""
    x = x / torch.sqrt(x.var(tuple(range(1, x.dim())), keepdim=True) + 1e-5)
    return plain_sign(x, approx_surrogate(x))


def plain_weight(weight: Tensor, stage: int) -> Tensor:
    """Compute the sine of the latent weight for the frequency 20, and in stage 2 its sign."""
    wave = torch.sin(20 * weight)
    return plain_sign(wave, wave) if stage == 2 else wave
