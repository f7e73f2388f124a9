"""Passes over latent weights: their wave, its gradient and its penalty; calls ``native/training/weights.cc``."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.activations import is_bfloat16
from biper.fast.availability import unavailable_reason


def scaled_weights(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """``scale * weight`` in a dtype, for a `taps_last` weight (O, C, kh, kw), C a multiple of 16, and (O,) scales."""
    from biper import _native

    out = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last)
    addresses = weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    _native.scaled_weights(is_bfloat16(out), weight.shape[0], weight[0].numel(), *addresses, torch.get_num_threads())
    return out


def fits_weights(weight: Tensor, grad: Tensor | None = None) -> bool:
    """Whether the functions below can work on latent weights: dense, float32, on the CPU; a gradient in their order."""
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
    """``grad * frequency * cos(frequency * weight)``, to 3e-7 of the cosine for weights of at most 10^4 radians."""
    from biper import _native

    out = torch.empty_like(weight)
    addresses = weight.data_ptr(), grad.data_ptr()
    _native.wave_gradient(weight.numel(), *addresses, frequency, out.data_ptr(), torch.get_num_threads())
    return out


def squared_sines(weight: Tensor, frequency: float) -> float:
    """The sum of ``sin²(frequency * weight)``."""
    from biper import _native

    return float(_native.squared_sines(weight.numel(), weight.data_ptr(), frequency, torch.get_num_threads()))


def double_angle_sines(weight: Tensor, frequency: float, factor: float) -> Tensor:
    """``factor * sin(2 * frequency * weight)``."""
    from biper import _native

    out = torch.empty_like(weight)
    _native.double_angle_sines(
        weight.numel(), weight.data_ptr(), frequency, factor, out.data_ptr(), torch.get_num_threads()
    )
    return out
