"""The passes of a batch norm with its residual and its clamp; calls ``native/training/norm.cc``."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16, shape_of


def channel_sums(x: Tensor) -> Tensor:
    """(2, C) float64: the sum of each channel and of its squares."""
    from biper import _native

    sums = torch.empty(2, x.shape[1], dtype=torch.float64)
    _native.channel_sums(is_bfloat16(x), shape_of(x), address_of(x), sums.data_ptr(), torch.get_num_threads())
    return sums


def affine_clamp(
    x: Tensor, multiplier: Tensor, offset: Tensor, residual: Tensor | None, bounds: tuple[float, float]
) -> Tensor:
    """``clamp(x * multiplier + offset + residual, *bounds)``, multiplier and offset (C,) float32."""
    from biper import _native

    out = torch.empty_like(x)
    _native.affine_clamp(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        multiplier.data_ptr(),
        offset.data_ptr(),
        0 if residual is None else address_of(residual, x),
        *bounds,
        address_of(out),
        torch.get_num_threads(),
    )
    return out


def clamp_backward(
    grad: Tensor, out: Tensor, x: Tensor, mean: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """``inner``: ``grad`` where ``out`` lies inside the bounds, else 0; and the sums of it and of ``inner (x - mean)``.

    The sums are (2, C) float64, the mean (C,) float32.
    """
    from biper import _native

    inner, sums = torch.empty_like(x), torch.empty(2, x.shape[1], dtype=torch.float64)
    _native.clamp_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(grad, x),
        address_of(out, x),
        address_of(x),
        mean.data_ptr(),
        *bounds,
        address_of(inner),
        sums.data_ptr(),
        torch.get_num_threads(),
    )
    return inner, sums


def norm_backward(inner: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, out: Tensor) -> Tensor:
    """``out = inner a + x b + c``, with a, b and c (C,) float32; ``out`` may be ``inner``."""
    from biper import _native

    _native.norm_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(inner, x),
        address_of(x),
        a.data_ptr(),
        b.data_ptr(),
        c.data_ptr(),
        address_of(out, x),
        torch.get_num_threads(),
    )
    return out
