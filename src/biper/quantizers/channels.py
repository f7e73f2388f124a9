"""Statistics of a weight over each of its output channels."""

from __future__ import annotations

import torch
from torch import Tensor


def channel_dims(weight: Tensor) -> tuple[int, ...]:
    """Return the dimensions of a weight (out, ...) that belong to one output channel: all but the first."""
    return tuple(range(1, weight.dim()))


def channel_magnitude(weight: Tensor) -> Tensor:
    """Compute ``mean |w|`` over each output channel of a weight (out, ...); the result is (out, 1, ...)."""
    return weight.abs().mean(channel_dims(weight), keepdim=True)


def standardized(weight: Tensor, epsilon: float = 0.0) -> Tensor:
    """Compute ``(w - mean) / sqrt(var + epsilon)`` over each output channel, with the unbiased variance.

    Args:
        weight: a weight (out, ...).
        epsilon: a number that is added to the variance.

    Returns:
        A tensor of the shape of ``weight``. A channel of equal weights gives zeros, also with an epsilon of 0.
    """
    dims = channel_dims(weight)
    centred = weight - weight.mean(dims, keepdim=True)
    variance = centred.square().sum(dims, keepdim=True) / max(weight[0].numel() - 1, 1)
    tiny = torch.finfo(weight.dtype).tiny
    return centred / (variance + epsilon).clamp(min=tiny).sqrt()
