"""The passes of a batch norm with the residual and the activation that follow it; calls ``native/training/norm.cc``.

Activations are (N, C, H, W) in channels-last layout, float32 or bfloat16, with C a multiple of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16, shape_of


def channel_sums(x: Tensor) -> Tensor:
    """Compute the sum of each channel and the sum of its squares: (2, C) float64."""
    from biper import _native

    sums = torch.empty(2, x.shape[1], dtype=torch.float64)
    _native.channel_sums(is_bfloat16(x), shape_of(x), address_of(x), sums.data_ptr(), torch.get_num_threads())
    return sums


def affine_clamp(
    x: Tensor, multiplier: Tensor, offset: Tensor, residual: Tensor | None, bounds: tuple[float, float]
) -> Tensor:
    """Compute ``clamp(x * multiplier + offset + residual, *bounds)``, where multiplier and offset are (C,) float32."""
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
    """Compute the gradient before the clamp, and the sums that the gradient of a batch norm needs.

    Args:
        grad: the gradient by ``out``.
        out: the result of `affine_clamp`.
        x: the input of the batch norm.
        mean: (C,) float32, the mean of each channel.
        bounds: the limits of the clamp.

    Returns:
        ``inner``, which is ``grad`` where ``out`` is inside the bounds and else 0; and the sums of ``inner`` and of
        ``inner * (x - mean)`` for each channel, (2, C) float64.
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


def affine_rprelu(
    x: Tensor, multiplier: Tensor, offset: Tensor, residual: Tensor | None, slope: Tensor, shift_out: Tensor
) -> Tensor:
    """Compute ``shift_out + (u if u > 0 else slope * u)`` with ``u = x * multiplier + offset + residual``.

    ``multiplier``, ``offset``, ``slope`` and ``shift_out`` are (C,) float32.
    """
    from biper import _native

    out = torch.empty_like(x)
    _native.affine_rprelu(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        multiplier.data_ptr(),
        offset.data_ptr(),
        0 if residual is None else address_of(residual, x),
        slope.data_ptr(),
        shift_out.data_ptr(),
        address_of(out),
        torch.get_num_threads(),
    )
    return out


def rprelu_backward(
    grad: Tensor,
    x: Tensor,
    multiplier: Tensor,
    offset: Tensor,
    residual: Tensor | None,
    slope: Tensor,
    mean: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute the gradient by the ``u`` of `affine_rprelu`, and sums for the gradients by the parameters.

    Args:
        grad: the gradient by the result of `affine_rprelu`.
        x, multiplier, offset, residual, slope: as there; ``u`` is computed again.
        mean: (C,) float32, the mean of each channel of ``x``.

    Returns:
        ``inner``, which is ``grad`` where ``u > 0`` and else ``slope * grad``; and the sums of ``inner``, of
        ``inner * (x - mean)``, of ``grad`` and of ``grad * min(u, 0)`` for each channel, (4, C) float64.
    """
    from biper import _native

    inner, sums = torch.empty_like(x), torch.empty(4, x.shape[1], dtype=torch.float64)
    _native.rprelu_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(grad, x),
        address_of(x),
        multiplier.data_ptr(),
        offset.data_ptr(),
        0 if residual is None else address_of(residual, x),
        slope.data_ptr(),
        mean.data_ptr(),
        address_of(inner),
        sums.data_ptr(),
        torch.get_num_threads(),
    )
    return inner, sums


def norm_backward(inner: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, out: Tensor) -> Tensor:
    """Compute ``inner * a + x * b + c`` into ``out``, where a, b and c are (C,) float32. ``out`` may be ``inner``."""
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
