"""A binary convolution together with the signs of its input, in the native training kernels.

`convolution` computes the same as the modules one after the other, in fewer passes over memory, and saves less for the
backward pass. Callers must ask `fits_convolution` first; `biper.nn.scaled` computes all other cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biper.fast import availability, signs
from biper.fast import convolution as kernels
from biper.fast.availability import has_hooks
from biper.fast.convolution import Geometry
from biper.fast.weights import scaled_weights
from biper.quantizers import VARIANCE_EPSILON, ApproxSign, RSign, ShiftedSign, SlopedSign, SteSign
from biper.quantizers.windowed import Window


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of autocast if it is on, and that of ``x`` if it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _for_kernels(x: Tensor) -> Tensor:
    """Convert activations to the dtype and the channels-last layout in which the kernels take them."""
    return x.to(_compute_dtype(x)).contiguous(memory_format=torch.channels_last)


def fits_convolution(x: Tensor, weight: Tensor, input_quantizer: nn.Module, groups: int) -> bool:
    """Return whether `convolution` can compute a layer.

    Args:
        x: the input of the layer.
        weight: the quantized weight (O, C / groups, kh, kw).
        input_quantizer: the input quantizer of the layer.
        groups: the number of groups of the convolution.
    """
    return (
        unfused_reason(weight, input_quantizer, groups) is None
        and weight.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and x.is_floating_point()
        and availability.fits(x)
        and availability.unavailable_reason(_compute_dtype(x)) is None
        and not has_hooks(*input_quantizer.modules())
    )


def _is_supported(quantizer: nn.Module) -> bool:
    """Return whether `convolution` knows the forward function and the gradient of an input quantizer."""
    if isinstance(quantizer, ShiftedSign):
        return type(quantizer).forward is ShiftedSign.forward and _is_supported(quantizer.sign_quantizer)
    if isinstance(quantizer, SlopedSign):
        return type(quantizer).forward is SlopedSign.forward
    return type(quantizer) in (ApproxSign, SteSign)


def unfused_reason(weight: Tensor, input_quantizer: nn.Module, groups: int) -> str | None:
    """Return why `convolution` cannot compute a layer, independent of its input, or None if it can.

    Args:
        weight: the weight (O, C / groups, kh, kw).
        input_quantizer: the input quantizer of the layer.
        groups: the number of groups of the convolution.

    Returns:
        A noun phrase that completes "torch's operators compute the layer because of".
    """
    if not _is_supported(input_quantizer):
        return f"{type(input_quantizer).__name__} inputs"
    if groups != 1:
        return "grouped channels"
    if weight.shape[0] % 16 or weight.shape[1] % 16:
        return "channels that are not a multiple of 16"
    return None


_SignGradient = Window | Callable[[Tensor], Tensor]
"""The surrogate gradient of the signs: a window that the kernels know, or a function from the input to the slope."""


class _Convolution(torch.autograd.Function):
    """``scale * conv2d(sign(x), w)``, and ``x`` itself for a residual connection.

    It returns ``x`` so that the backward pass adds both gradients by ``x`` in one pass over memory. It saves ``x``, its
    bits and ``w``. With ``G`` the weight gradient of the unscaled convolution, ``dw = scale G`` and
    ``dscale = sum(w G)``. The gradient by the signs becomes ``dx`` by the window of `ApproxSign` ("triangle") or
    `SteSign` ("box"), or by a function from ``x`` to the slope. An epsilon, where given, stands for the division of
    ``x`` by its per-sample standard deviation. A threshold for each channel, where given, is subtracted from ``x``
    before its signs are taken; it goes with a window and without an epsilon.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        epsilon: float | None,
        gradient: _SignGradient,
        geometry: Geometry,
        scaled_signs: bool,
        threshold: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        weight, scale = kernels.taps_last(weight), scale.contiguous()
        bits = signs.signs(x, epsilon, threshold)
        ctx.save_for_backward(x, weight, scale, threshold)
        ctx.bits, ctx.gradient, ctx.geometry = bits, gradient, geometry
        ctx.looks_up = scaled_signs and geometry.is_dense((weight.shape[2], weight.shape[3]))
        return kernels.convolution(bits, weight, scale, geometry, x.dtype), x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, passed_on: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, scale, threshold = ctx.saved_tensors
        if grad is None:
            return passed_on, *[None] * 7
        geometry = ctx.geometry
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_scale = grad_threshold = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_scale = kernels.weight_gradient(ctx.bits, grad, weight, scale, geometry)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[7]:
            by_signs = _Convolution.by_signs(ctx, grad, x, weight, scale)
            if passed_on is not None:
                passed_on = passed_on.contiguous(memory_format=torch.channels_last)
            box = ctx.gradient == "box"
            if callable(ctx.gradient):
                grad_x = ctx.gradient(x).mul_(by_signs)
                grad_x = grad_x if passed_on is None else grad_x.add_(passed_on)
            elif threshold is not None:
                grad_x, grad_threshold = signs.threshold_backward_(x, threshold, box, passed_on, by_signs)
            else:
                grad_x = signs.sign_backward_(x, ctx.bits.statistics, box, passed_on, by_signs)
        return grad_x, grad_weight, grad_scale, *[None] * 4, grad_threshold

    @staticmethod
    def by_signs(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """Compute the gradient by the signs of ``x``, in native kernels where they can, and else in torch."""
        geometry = ctx.geometry
        if kernels.has_input_gradient(grad.dtype, geometry, len(weight)):
            return kernels.input_gradient(ctx.bits, grad, weight, scale, geometry)
        if ctx.looks_up:
            return kernels.signs_input_gradient(ctx.bits, grad, weight, scale * weight[:, 0, 0, 0].abs(), geometry)
        weight = scaled_weights(weight, scale, x.dtype)
        places = geometry.stride, geometry.padding, geometry.dilation, False, (0, 0), 1
        by_signs: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *places, (True, False, False))[0]
        return by_signs.contiguous(memory_format=torch.channels_last)


_convolution_function: Callable[
    [Tensor, Tensor, Tensor, float | None, _SignGradient, Geometry, bool, Tensor | None], tuple[Tensor, Tensor]
] = _Convolution.apply


def convolution(
    x: Tensor, weight: Tensor, scale: Tensor, input_quantizer: nn.Module, geometry: Geometry, scaled_signs: bool
) -> tuple[Tensor, Tensor]:
    """Compute ``scale * conv2d(input_quantizer(x), weight)`` in the native kernels, and pass ``x`` on.

    Where a residual connection uses the returned ``x``, its gradient is added in the backward pass of the convolution.

    Args:
        x: the input (N, C, H, W), C a multiple of 16.
        weight: the quantized weight (O, C, kh, kw) float32, O a multiple of 16.
        scale: one factor for each output channel, (O,) float32.
        input_quantizer: an `ApproxSign`, a `SteSign`, a `SlopedSign`, or a `ShiftedSign` with one of them.
        geometry: the stride, padding and dilation.
        scaled_signs: whether the weights of each output channel are plus and minus one number.

    Returns:
        The output and ``x``, both in channels-last layout, and in the dtype of autocast if it is on.
    """
    x = _for_kernels(x)
    if not isinstance(input_quantizer, ShiftedSign):
        return _sign_convolution(x, weight, scale, input_quantizer, geometry, scaled_signs)
    sign_quantizer = input_quantizer.sign_quantizer
    if _is_rsign(input_quantizer, x.shape[1]):
        threshold = input_quantizer.threshold
        return _sign_convolution(x, weight, scale, sign_quantizer, geometry, scaled_signs, threshold)
    argument = _for_kernels(input_quantizer.sign_argument(x))
    if not input_quantizer.has_own_scale:
        return _sign_convolution(argument, weight, scale, sign_quantizer, geometry, scaled_signs)[0], x
    input_scale, offset = input_quantizer.scale_and_offset(scale)
    y, _ = _sign_convolution(argument, weight, scale * input_scale, sign_quantizer, geometry, scaled_signs)
    # The offset adds a convolution of ones. Padded taps add nothing to it, so that it differs at the borders.
    with torch.autocast("cpu", enabled=False):
        ones = weight.new_ones(1, *x.shape[1:])
        shift = F.conv2d(ones, weight, None, geometry.stride, geometry.padding, geometry.dilation)
        shift = shift * (scale * offset).view(-1, 1, 1)
    return y + shift.to(y.dtype).contiguous(memory_format=torch.channels_last), x


def _is_rsign(quantizer: nn.Module, channels: int) -> TypeGuard[RSign]:
    """Whether the kernels subtract the threshold of an input quantizer themselves, for an input of ``channels``."""
    return (
        isinstance(quantizer, RSign)
        and type(quantizer).sign_argument is RSign.sign_argument
        and isinstance(quantizer.sign_quantizer, ApproxSign)
        and not quantizer.sign_quantizer.normalize
        and quantizer.threshold.dtype is torch.float32
        and len(quantizer.threshold) == channels
    )


def _sign_convolution(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    quantizer: nn.Module,
    geometry: Geometry,
    scaled_signs: bool,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute `convolution` for an input quantizer that only takes signs, of ``x`` or of ``x - threshold``."""
    if isinstance(quantizer, SlopedSign):
        return _convolution_function(x, weight, scale, None, quantizer.slope, geometry, scaled_signs, None)
    assert isinstance(quantizer, ApproxSign | SteSign)
    epsilon = VARIANCE_EPSILON if quantizer.normalize and quantizer.training else None
    return _convolution_function(x, weight, scale, epsilon, quantizer.window, geometry, scaled_signs, threshold)
