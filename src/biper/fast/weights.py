"""Passes over latent weights: deviation, gradient of the wave, penalty, scale; calls ``native/training/weights.cc``."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.activations import is_bfloat16
from biper.fast.availability import unavailable_reason


def scaled_weights(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``scale * weight``.

    Args:
        weight: (O, C, kh, kw) float32 in the order of `biper.fast.convolution.taps_last`, with C a multiple of 16.
        scale: (O,) float32.
        dtype: float32 or bfloat16, of the result.
    """
    from biper import _native

    out = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last)
    addresses = weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    _native.scaled_weights(is_bfloat16(out), weight.shape[0], weight[0].numel(), *addresses, torch.get_num_threads())
    return out


def fits_weights(weight: Tensor, grad: Tensor | None = None) -> bool:
    """Whether the functions below can work on latent weights.

    The weights must be float32, dense in memory and on the CPU; their gradient must be float32 in the same order.
    """
    dense = weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
    return (
        weight.dtype is torch.float32
        and weight.device.type == "cpu"
        and dense
        and (grad is None or (grad.dtype is torch.float32 and grad.stride() == weight.stride()))
        and not torch.compiler.is_compiling()
        and unavailable_reason(torch.float32) is None
    )


def standardize(weight: Tensor, groups: int, centred: bool) -> tuple[Tensor, Tensor]:
    """Divide the weights of each group by their standard deviation, and subtract their mean before if ``centred``.

    Args:
        weight: (O, ...) float32; see `fits_weights`.
        groups: ``O`` for groups of one output channel, or 1; each must have two weights at least.
        centred: whether the mean is subtracted.

    Returns:
        A tensor like ``weight``, and ``1 / deviation`` of each group, (groups,), which is 0 for equal weights.
    """
    from biper import _native

    out, inverse = torch.empty_like(weight), torch.empty(groups, dtype=torch.float32)
    sizes = groups, weight.numel() // groups
    _native.standardize(*sizes, weight.data_ptr(), centred, out.data_ptr(), inverse.data_ptr(), torch.get_num_threads())
    return out, inverse


def standardize_backward(standard: Tensor, inverse: Tensor, grad: Tensor, centred: bool) -> Tensor:
    """Compute the gradient by the weight from ``grad``, the gradient by the result of `standardize`.

    Args:
        standard, inverse: the results of `standardize`.
        grad: float32, in the memory order of ``standard``.
        centred: as there.
    """
    from biper import _native

    out = torch.empty_like(standard)
    sizes = len(inverse), standard.numel() // len(inverse)
    addresses = standard.data_ptr(), inverse.data_ptr(), grad.data_ptr()
    _native.standardize_backward(*sizes, *addresses, centred, out.data_ptr(), torch.get_num_threads())
    return out


def wave_gradient(weight: Tensor, grad: Tensor, frequency: float) -> Tensor:
    """Compute ``grad * frequency * cos(frequency * weight)``.

    The error of the cosine is at most 3e-7 for phases ``frequency * weight`` below 10^4 radians.
    """
    from biper import _native

    out = torch.empty_like(weight)
    addresses = weight.data_ptr(), grad.data_ptr()
    _native.wave_gradient(weight.numel(), *addresses, frequency, out.data_ptr(), torch.get_num_threads())
    return out


def squared_sines(weight: Tensor, frequency: float) -> float:
    """Compute the sum of ``sin²(frequency * weight)`` over all weights."""
    from biper import _native

    return float(_native.squared_sines(weight.numel(), weight.data_ptr(), frequency, torch.get_num_threads()))


def double_angle_sines(weight: Tensor, frequency: float, factor: float) -> Tensor:
    """Compute ``factor * sin(2 * frequency * weight)``."""
    from biper import _native

    out = torch.empty_like(weight)
    _native.double_angle_sines(
        weight.numel(), weight.data_ptr(), frequency, factor, out.data_ptr(), torch.get_num_threads()
    )
    return out
