"""The periodic penalty, BiPer's regularizer on latent weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.fast import weights as kernels
from biper.nn.walk import periodic_weights


class _Penalty(torch.autograd.Function):
    """The penalty of all layers in native kernels. It saves the weights and no tensor of sines."""

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


_penalty: Callable[..., Tensor] = _Penalty.apply


def periodic_penalty(model: nn.Module, strength: float) -> Tensor:
    r"""Compute the regularizer of BiPer, a term of the training loss.

    The formula, with the frequency ω of each layer and the mean over all latent weights of a layer:

        strength * sum over the binary layers of mean(sin²(ω w))

    Its gradient by one of the ``n`` weights of a layer is ``strength * ω sin(2 ω w) / n``. Layers whose weight
    quantizer is not a `PeriodicSign` add nothing.

    For a `StandardizedPeriodicSign`, the phase ``ω w`` is the standardized phase φ, and the gradient goes through the
    mean and the deviation. The penalty then does not depend on the length of the latent weights: it cannot be lowered
    by making all of them smaller, only by moving phases towards the zeros of the sine while their deviation stays σ.

    Args:
        model: any module.
        strength: τ, without unit. A positive strength draws weights to the zeros of the sine, a negative one to its
            extremes, and 0 switches the penalty off.

    Returns:
        A scalar in the dtype of the weights, on their device. It is a float32 zero for a strength of 0 and for a model
        without periodic layers.

    Source: Vargas et al., "BiPer: Binary Neural Networks using a Periodic Function", CVPR 2024, and the authors'
    published training code.
    """
    weights = periodic_weights(model).values()
    if not weights or strength == 0:
        return torch.zeros((), device=next((parameter.device for parameter in model.parameters()), None))
    if all(kernels.fits_weights(weight) and quantizer.has_fixed_frequency for weight, quantizer in weights):
        frequencies = tuple(quantizer.frequency for _, quantizer in weights)
        return _penalty(strength, frequencies, *(weight for weight, _ in weights))
    means = [torch.sin(quantizer.phase(weight)).square().mean() for weight, quantizer in weights]
    return strength * torch.stack(means).sum()
