"""Autograd of a binary convolution together with its input's signs, in the native training kernels.

It computes what the modules compute one after the other, in fewer passes over memory, and keeps less for the backward
pass. Callers ask `fits_convolution` first; `biper.nn.scaled` has the form for all other cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biper.fast import availability, lookup, signs
from biper.fast.availability import has_hooks
from biper.fast.lookup import Geometry
from biper.fast.weights import scaled_weights
from biper.quantizers import VARIANCE_EPSILON, ApproxSign, ShiftedSign, SlopedSign, SteSign


def _activations(x: Tensor) -> Tensor:
    """``x`` in the layout of the kernels, and in the dtype of autocast if it is on."""
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    return x.contiguous(memory_format=torch.channels_last)


def _dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def fits_convolution(x: Tensor, weight: Tensor, input_quantizer: nn.Module, groups: int) -> bool:
    """Whether `convolution` can compute a layer."""
    return (
        unfused_reason(weight, input_quantizer, groups) is None
        and weight.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and x.is_floating_point()
        and availability.fits(x)
        and availability.unavailable_reason(_dtype(x)) is None
        and not has_hooks(*input_quantizer.modules())
    )


def _takes_signs(quantizer: nn.Module) -> bool:
    """Whether a quantizer takes signs of a real tensor, with a gradient that `convolution` has."""
    if isinstance(quantizer, ShiftedSign):
        return type(quantizer).forward is ShiftedSign.forward and _takes_signs(quantizer.sign)
    if isinstance(quantizer, SlopedSign):
        return type(quantizer).forward is SlopedSign.forward
    return type(quantizer) in (ApproxSign, SteSign)


def unfused_reason(weight: Tensor, input_quantizer: nn.Module, groups: int) -> str | None:
    """Why the fused convolution cannot compute a layer, whatever its input; None if it can."""
    if not _takes_signs(input_quantizer):
        return f"{type(input_quantizer).__name__} inputs"
    if groups != 1:
        return "grouped channels"
    if weight.shape[0] % 16 or weight.shape[1] % 16:
        return "channels that are not a multiple of 16"
    return None


class _Convolution(torch.autograd.Function):
    """``scale * conv2d(sign(x), w)``, and ``x`` itself, so that its gradients from both come together in one pass.

    Saves ``x``, its bits and ``w``. With ``G`` the weight gradient of the unscaled convolution: ``dw = scale G``,
    ``dscale = sum(w G)``, and ``dx`` as `biper.quantizers` says of the input quantizer, or by a slope over ``x``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        epsilon: float | None,
        gradient: Literal["triangle", "box"] | Callable[[Tensor], Tensor],
        geometry: Geometry,
        are_signs: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        weight, scale = lookup.taps_last(weight), scale.contiguous()
        bits = signs.signs(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        ctx.bits, ctx.gradient, ctx.geometry = bits, gradient, geometry
        ctx.looks_up = are_signs and geometry.is_dense((weight.shape[2], weight.shape[3]))
        return lookup.lookup_convolution(bits, weight, scale, geometry, x.dtype), x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, passed_on: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        if grad is None:
            return passed_on, *[None] * 6
        geometry = ctx.geometry
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_scale = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_scale = lookup.lookup_weight_gradient(ctx.bits, grad, weight, scale, geometry)
        if ctx.needs_input_grad[0]:
            by_signs = _Convolution.by_signs(ctx, grad, x, weight, scale)
            if passed_on is not None:
                passed_on = passed_on.contiguous(memory_format=torch.channels_last)
            if callable(ctx.gradient):
                grad_x = ctx.gradient(x).mul_(by_signs)
                grad_x = grad_x if passed_on is None else grad_x.add_(passed_on)
            else:
                box = ctx.gradient == "box"
                grad_x = signs.sign_backward_(x, ctx.bits.statistics, box, passed_on, by_signs)
        return grad_x, grad_weight, grad_scale, *[None] * 4

    @staticmethod
    def by_signs(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """The gradient by the signs of ``x``."""
        geometry = ctx.geometry
        if ctx.looks_up:
            return lookup.lookup_input_gradient(ctx.bits, grad, weight, scale * weight[:, 0, 0, 0].abs(), geometry)
        weight = scaled_weights(weight, scale, x.dtype)
        places = geometry.stride, geometry.padding, geometry.dilation, False, (0, 0), 1
        by_signs: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *places, (True, False, False))[0]
        return by_signs.contiguous(memory_format=torch.channels_last)


def convolution(
    x: Tensor, weight: Tensor, scale: Tensor, input_quantizer: nn.Module, geometry: Geometry, are_signs: bool
) -> tuple[Tensor, Tensor]:
    """``scale * conv2d(input_quantizer(x), weight)``, and ``x``, whose gradient goes the same way back.

    Args:
        x: (N, C, H, W), C a multiple of 16.
        weight: the quantized weight (O, C, kh, kw) float32, O a multiple of 16.
        scale: (O,) float32.
        input_quantizer: an `ApproxSign`, a `SteSign`, a `SlopedSign`, or a `ShiftedSign` of one of them.
        geometry: stride, padding and dilation.
        are_signs: whether the weights are all +1 or -1, or plus and minus a number of each output channel.

    Returns:
        Both in channels-last layout, and in the dtype of autocast if it is on.
    """
    x = _activations(x)
    if not isinstance(input_quantizer, ShiftedSign):
        return _sign_convolution(x, weight, scale, input_quantizer, geometry, are_signs)
    real = _activations(input_quantizer.real(x))
    if not input_quantizer.levelled:
        return _sign_convolution(real, weight, scale, input_quantizer.sign, geometry, are_signs)[0], x
    level, offset = input_quantizer.levels(scale)
    y, _ = _sign_convolution(real, weight, scale * level, input_quantizer.sign, geometry, are_signs)
    with torch.autocast("cpu", enabled=False):  # padding adds nothing to it, so that it differs at the borders
        ones = weight.new_ones(1, *x.shape[1:])
        shift = F.conv2d(ones, weight, None, geometry.stride, geometry.padding, geometry.dilation)
        shift = shift * (scale * offset).view(-1, 1, 1)
    return y + shift.to(y.dtype).contiguous(memory_format=torch.channels_last), x


def _sign_convolution(
    x: Tensor, weight: Tensor, scale: Tensor, quantizer: nn.Module, geometry: Geometry, are_signs: bool
) -> tuple[Tensor, Tensor]:
    """`convolution` where the input quantizer does nothing but take signs."""
    if isinstance(quantizer, SlopedSign):
        return _Convolution.apply(x, weight, scale, None, quantizer.slope, geometry, are_signs)
    assert isinstance(quantizer, ApproxSign | SteSign)
    epsilon = VARIANCE_EPSILON if quantizer.normalize and quantizer.training else None
    return _Convolution.apply(x, weight, scale, epsilon, quantizer.window, geometry, are_signs)
