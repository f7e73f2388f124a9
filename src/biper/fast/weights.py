"""Passes over latent weights: gradient of the wave, penalty, scale; calls ``native/training/weights.cc``."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.activations import is_bfloat16
from biper.fast.availability import unavailable_reason


def scaled_weights(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``scale * weight``.

    Args:
        weight: (O, C, kh, kw) float32 in the order of `biper.fast.lookup.taps_last`, with C a multiple of 16.
        scale: (O,) float32.
        dtype: float32 or bfloat16, of the result.
    """
    from biper import _native

    out = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last)
    addresses = weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    _native.scaled_weights(is_bfloat16(out), weight.shape[0], weight[0].numel(), *addresses, torch.get_num_threads())
    return out


def fits_weights(weight: Tensor, grad: Tensor | None = None) -> bool:
    """Whether `wave_gradient`, `squared_sines` and `double_angle_sines` can work on latent weights.

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
