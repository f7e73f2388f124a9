"""Autograd over the native kernels: a binary convolution with its signs, and a batch norm with what follows it.

Both compute what the modules compute one after the other, in fewer passes over memory, and keep less for the backward
pass. Callers ask `fits_convolution` and `fits_norm` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biper import kernels
from biper.kernels import Geometry
from biper.quantizers import VARIANCE_EPSILON, ApproxSign, ShiftedSign, SlopedSign, SteSign


def is_unwatched(*modules: nn.Module) -> bool:
    """Whether these modules have no hooks, so that nobody misses it if others do their work."""
    return not any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in modules)


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
        why_not_convolution(weight, input_quantizer, groups) is None
        and weight.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and x.is_floating_point()
        and kernels.fits(x)
        and kernels.why_not(_dtype(x)) is None
        and is_unwatched(*input_quantizer.modules())
    )


def _takes_signs(quantizer: nn.Module) -> bool:
    """Whether a quantizer takes signs of a real tensor, with a gradient that `convolution` has."""
    if isinstance(quantizer, ShiftedSign):
        return type(quantizer).forward is ShiftedSign.forward and _takes_signs(quantizer.sign)
    if isinstance(quantizer, SlopedSign):
        return type(quantizer).forward is SlopedSign.forward
    return type(quantizer) in (ApproxSign, SteSign)


def why_not_convolution(weight: Tensor, input_quantizer: nn.Module, groups: int) -> str | None:
    """Why `convolution` cannot compute a layer, whatever its input; None if it can."""
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
        weight, scale = kernels.taps_last(weight), scale.contiguous()
        bits = kernels.signs(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        ctx.bits, ctx.gradient, ctx.geometry = bits, gradient, geometry
        ctx.looks_up = are_signs and geometry.is_dense((weight.shape[2], weight.shape[3]))
        return kernels.lookup_convolution(bits, weight, scale, geometry, x.dtype), x

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
            grad_weight, grad_scale = kernels.lookup_weight_gradient(ctx.bits, grad, weight, scale, geometry)
        if ctx.needs_input_grad[0]:
            by_signs = _Convolution.by_signs(ctx, grad, x, weight, scale)
            if passed_on is not None:
                passed_on = passed_on.contiguous(memory_format=torch.channels_last)
            if callable(ctx.gradient):
                grad_x = ctx.gradient(x).mul_(by_signs)
                grad_x = grad_x if passed_on is None else grad_x.add_(passed_on)
            else:
                box = ctx.gradient == "box"
                grad_x = kernels.sign_backward_(x, ctx.bits.statistics, box, passed_on, by_signs)
        return grad_x, grad_weight, grad_scale, *[None] * 4

    @staticmethod
    def by_signs(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """The gradient by the signs of ``x``."""
        geometry = ctx.geometry
        if ctx.looks_up:
            return kernels.lookup_input_gradient(ctx.bits, grad, weight, scale * weight[:, 0, 0, 0].abs(), geometry)
        weight = kernels.scaled_weights(weight, scale, x.dtype)
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


_Bounds = tuple[float, float]


def bounds_of(activation: nn.Module) -> _Bounds | None:
    """Where an activation clamps, or None if it does something else."""
    if type(activation) is nn.Hardtanh:
        return float(activation.min_val), float(activation.max_val)
    if type(activation) is nn.ReLU:
        return 0.0, float("inf")
    if type(activation) is nn.Identity:
        return float("-inf"), float("inf")
    return None


def fits_norm(norm: nn.Module, x: Tensor, residual: Tensor | None, activation: nn.Module) -> bool:
    """Whether `norm_activation` can compute these modules; ``activation`` clamps, see `bounds_of`."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.weight.dtype is torch.float32
        and norm.track_running_stats
        and norm.momentum is not None
        and (norm.training or not torch.is_grad_enabled())
        and (residual is None or residual.shape == x.shape)
        and not torch.compiler.is_compiling()
        and kernels.fits(x)
        and is_unwatched(norm, activation)
    )


class _NormActivation(torch.autograd.Function):
    r"""``out = clamp(weight (x - mean) r + bias + residual)`` with the mean and ``r = 1/sqrt(var + eps)`` of the batch.

    With ``h`` the gradient inside the clamp, ``M`` values a channel, ``S = sum h`` and ``Q = sum h (x - mean)``:
    ``dbias = S``, ``dweight = r Q``, ``dresidual = h`` and ``dx = weight r (h - S/M - (x - mean) r² Q/M)``.
    Saves ``x`` and ``out``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        running: tuple[Tensor, Tensor],
        momentum: float,
        epsilon: float,
        bounds: _Bounds,
    ) -> Tensor:
        count = x.numel() // x.shape[1]
        mean, squares = kernels.channel_sums(x) / count
        variance = (squares - mean.square()).clamp_(min=0)
        running[0].lerp_(mean.float(), momentum)
        running[1].lerp_((variance * (count / max(count - 1, 1))).float(), momentum)
        inverse = (variance + epsilon).rsqrt()
        multiplier = weight * inverse
        offset = (bias - mean * multiplier).float()
        out = kernels.affine_clamp(x, multiplier.float(), offset, residual, bounds)
        ctx.save_for_backward(x, out, weight)
        ctx.statistics, ctx.bounds = (mean, inverse), bounds
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, weight = ctx.saved_tensors
        mean, inverse = ctx.statistics
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        inner, (total, products) = kernels.clamp_backward(grad, out, x, mean.float(), ctx.bounds)
        needs_x, needs_residual = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        grad_x = None
        if needs_x:
            count = x.numel() // x.shape[1]
            a = weight * inverse
            b = -a * inverse.square() * products / count
            c = -a * total / count - b * mean
            into = torch.empty_like(x) if needs_residual else inner
            grad_x = kernels.norm_backward(inner, x, a.float(), b.float(), c.float(), into)
        grad_weight = (products * inverse).to(weight.dtype)
        grad_residual = inner if needs_residual else None
        return grad_x, grad_weight, total.to(weight.dtype), grad_residual, None, None, None, None


def norm_activation(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, activation: nn.Module) -> Tensor:
    """``activation(norm(x) + residual)``; in training mode ``norm``'s running statistics move on.

    Args:
        norm: with weight and bias, in training mode, or in evaluation mode where no gradient is wanted.
        x: (N, C, H, W), C a multiple of 16.
        residual: of the same shape, or None.
        activation: one that clamps; see `bounds_of`.

    Returns:
        (N, C, H, W) in channels-last layout, in the dtype of ``x``.
    """
    bounds = bounds_of(activation)
    assert bounds is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    x = x.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.to(x.dtype).contiguous(memory_format=torch.channels_last)
    if norm.training:
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        running = norm.running_mean, norm.running_var
        return _NormActivation.apply(x, norm.weight, norm.bias, residual, running, norm.momentum, norm.eps, bounds)
    multiplier = norm.weight * (norm.running_var + norm.eps).rsqrt()
    offset = norm.bias - norm.running_mean * multiplier
    return kernels.affine_clamp(x, multiplier, offset, residual, bounds)
