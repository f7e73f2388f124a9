"""The passes of a batch norm with the residual and the activation that follow it.

They call ``native/training/norm.cc``, and ``batch_norm.cc`` there for what is computed once a channel.

Activations are (N, C, H, W) in channels-last layout, float32 or bfloat16, with C a multiple of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biper.fast.activations import address_of, is_bfloat16, shape_of


def batch_statistics(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Compute the statistics of a batch, and move the running statistics of the norm towards them.

    Args:
        x: the input of the norm.
        norm: it has weight, bias, running statistics and a momentum, all float32 of C channels.

    Returns:
        The mean and ``1 / sqrt(var + eps)`` of each channel, (2, C) float64; and ``multiplier``, ``offset`` and the
        mean, (3, C) float32, where the norm is ``x * multiplier + offset``.
    """
    from biper import _native

    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    statistics = torch.empty(2, x.shape[1], dtype=torch.float64)
    affine = torch.empty(3, x.shape[1], dtype=torch.float32)
    _native.norm_statistics(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        norm.weight.data_ptr(),
        norm.bias.data_ptr(),
        norm.eps,
        norm.momentum,
        norm.running_mean.data_ptr(),
        norm.running_var.data_ptr(),
        statistics.data_ptr(),
        affine.data_ptr(),
        torch.get_num_threads(),
    )
    return statistics, affine


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


def norm_backward(
    inner: Tensor, x: Tensor, weight: Tensor, statistics: Tensor, sums: Tensor, out: Tensor | None
) -> Tensor:
    r"""Compute the gradients of a batch norm in training from ``inner``, the gradient ``h`` by its result.

    With ``M`` values a channel, ``r = 1 / sqrt(var + eps)``, ``S = sum h`` and ``Q = sum h (x - mean)``:
    ``dx = weight r (h - S/M - (x - mean) r² Q/M)``, ``dweight = r Q`` and ``dbias = S``.

    Args:
        inner: ``h``.
        x: the input of the norm.
        weight: that of the norm, (C,) float32.
        statistics: the first result of `batch_statistics`.
        sums: ``S`` and ``Q``, the first rows of (2 or more, C) float64.
        out: becomes ``dx``; it may be ``inner``. None if it is not wanted.

    Returns:
        ``dweight`` and ``dbias``, (2, C) float32.
    """
    from biper import _native

    gradients = torch.empty(2, x.shape[1], dtype=torch.float32)
    _native.norm_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(inner, x),
        address_of(x),
        weight.data_ptr(),
        statistics.data_ptr(),
        sums.data_ptr(),
        gradients.data_ptr(),
        0 if out is None else address_of(out, x),
        torch.get_num_threads(),
    )
    return gradients
