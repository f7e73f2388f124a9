"""The scaled convolution and the scaled linear map in torch's operators, for every device, geometry and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def _in_autocast_dtype(*operands: Tensor) -> tuple[Tensor, ...]:
    """Return the operands in the dtype of autocast if it is on, and as they are if it is off."""
    device = operands[0].device.type
    if not torch.is_autocast_enabled(device):
        return operands
    return tuple(operand.to(torch.get_autocast_dtype(device)) for operand in operands)


class _ScaledConvolution(torch.autograd.Function):
    """``scale * conv2d(x, w)`` that saves the operands and not the product.

    With ``G`` the weight gradient of the unscaled convolution for the incoming gradient ``g``:
    ``dw = scale G``, ``dscale = sum(w G)`` (because the output is linear in ``w``) and
    ``dx = conv2d_input(scale w, g)``. The autograd of ``conv2d(...) * scale`` would keep the output of the
    convolution, a tensor of the size of the activations, only to compute ``dscale``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.original_dtypes = x.dtype, weight.dtype
        x, weight = _in_autocast_dtype(x, weight)
        ctx.save_for_backward(x, weight, scale)
        ctx.geometry = stride, padding, dilation, False, (0, 0), groups
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, None, stride, padding, dilation, groups) * scale.to(x.dtype).view(-1, 1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        channel_scale = scale.to(weight.dtype).view(-1, 1, 1, 1)
        backward = torch.ops.aten.convolution_backward
        grad_x = grad_weight = grad_scale = None
        if ctx.needs_input_grad[0]:
            grad_x = backward(grad, x, weight * channel_scale, None, *ctx.geometry, (True, False, False))[0]
            grad_x = grad_x.to(ctx.original_dtypes[0])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            unscaled = backward(grad, x, weight, None, *ctx.geometry, (False, True, False))[1]
            grad_weight = (unscaled * channel_scale).to(ctx.original_dtypes[1])
            grad_scale = (unscaled * weight).sum((1, 2, 3), dtype=scale.dtype)
        return grad_x, grad_weight, grad_scale, None, None, None, None


scaled_convolution: Callable[
    [Tensor, Tensor, Tensor, tuple[int, ...], tuple[int, ...] | str, tuple[int, ...], int], Tensor
] = _ScaledConvolution.apply
"""``scale * conv2d(x, weight)`` of the input, the weight, the scale (out,), stride, padding, dilation and groups."""


class _ScaledLinear(torch.autograd.Function):
    """``scale * (x @ w.T)`` that saves the operands and not the product.

    With ``G`` the weight gradient of the unscaled product: ``dw = scale G``, ``dscale = sum(w G)`` and
    ``dx = g (scale w)``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.original_dtypes = x.dtype, weight.dtype
        x, weight = _in_autocast_dtype(x, weight)
        ctx.save_for_backward(x, weight, scale)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, weight) * scale.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        channel_scale = scale.to(weight.dtype).view(-1, 1)
        grad_x = grad_weight = grad_scale = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ (weight * channel_scale)).to(ctx.original_dtypes[0])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            unscaled = grad.flatten(0, -2).T @ x.flatten(0, -2)
            grad_weight = (unscaled * channel_scale).to(ctx.original_dtypes[1])
            grad_scale = (unscaled * weight).sum(1, dtype=scale.dtype)
        return grad_x, grad_weight, grad_scale


scaled_linear: Callable[[Tensor, Tensor, Tensor], Tensor] = _ScaledLinear.apply
"""``scale * (x @ weight.T)`` of the input (..., in), the weight (out, in) and the scale (out,)."""
