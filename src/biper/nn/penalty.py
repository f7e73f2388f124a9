"""Regularizers on latent weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.fast import weights as kernels
from biper.nn.walk import periodic_weights


class _Penalty(torch.autograd.Function):
    """The penalty over all layers at once, from their weights alone: no tensor of sines is kept."""

    @staticmethod
    def forward(ctx: Any, strength: float, frequencies: tuple[float, ...], *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*weights)
        ctx.strength, ctx.frequencies = strength, frequencies
        layers = zip(weights, frequencies, strict=True)
        total = sum(kernels.squared_sines(weight, frequency) / weight.numel() for weight, frequency in layers)
        return torch.tensor(strength * total, dtype=weights[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = []
        for weight, frequency in zip(ctx.saved_tensors, ctx.frequencies, strict=True):
            factor = grad.item() * ctx.strength * frequency / weight.numel()
            gradients.append(kernels.double_angle_sines(weight, frequency, factor))
        return None, None, *gradients


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
    if all(kernels.fits_weights(weight) and not quantizer.learns_frequency for weight, quantizer in weights):
        frequencies = tuple(quantizer.frequency for _, quantizer in weights)
        return _Penalty.apply(strength, frequencies, *(weight for weight, _ in weights))
    means = [torch.sin(quantizer.phase(weight)).square().mean() for weight, quantizer in weights]
    return strength * torch.stack(means).sum()
