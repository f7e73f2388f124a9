"""A batch norm followed by a residual addition and an activation, in one native kernel where possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.fast import availability
from biper.fast import norm as kernels
from biper.fast.availability import has_hooks

_Bounds = tuple[float, float]
"""The lowest and the highest output of an activation that clamps its input."""

_NO_ACTIVATION = nn.Identity()


def norm_activation(norm: nn.Module, x: Tensor, activation: nn.Module, residual: Tensor | None = None) -> Tensor:
    """Compute ``activation(norm(x) + residual)``, in one native kernel where `fits_norm` allows it.

    Args:
        norm: the normalization; the native kernel takes a `torch.nn.BatchNorm2d`. In training mode, its running
            statistics are updated.
        x: the input of the normalization, (N, C, H, W), which may be overwritten.
        activation: the activation; the native kernel takes `torch.nn.Hardtanh`, `torch.nn.ReLU` and
            `torch.nn.Identity`, and any other runs after it.
        residual: a tensor of the shape of ``x`` that is added before the activation, or None.

    Returns:
        A tensor of the shape of ``x``.
    """
    clamp = activation if bounds_of(activation) is not None else _NO_ACTIVATION
    if fits_norm(norm, x, residual, clamp):
        assert isinstance(norm, nn.BatchNorm2d)
        out = _fused_norm_activation(norm, x, residual, clamp)
        if clamp is activation:
            return out
    else:
        out = norm(x)
        if residual is not None:
            out += residual
    result: Tensor = activation(out)
    return result


def bounds_of(activation: nn.Module) -> _Bounds | None:
    """Return the bounds at which an activation clamps its input, or None if it does something else."""
    if type(activation) is nn.Hardtanh:
        return float(activation.min_val), float(activation.max_val)
    if type(activation) is nn.ReLU:
        return 0.0, float("inf")
    if type(activation) is nn.Identity:
        return float("-inf"), float("inf")
    return None


def fits_norm(norm: nn.Module, x: Tensor, residual: Tensor | None, activation: nn.Module) -> bool:
    """Return whether the native kernel can compute these modules; ``activation`` must have bounds, see `bounds_of`."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.weight.dtype is torch.float32
        and norm.track_running_stats
        and norm.momentum is not None
        and (norm.training or not torch.is_grad_enabled())
        and (residual is None or residual.shape == x.shape)
        and not torch.compiler.is_compiling()
        and availability.fits(x)
        and not has_hooks(norm, activation)
    )


class _NormActivation(torch.autograd.Function):
    r"""``out = clamp(weight (x - mean) r + bias + residual)`` with the mean and ``r = 1/sqrt(var + eps)`` of the batch.

    With ``h`` the gradient inside the clamp, ``M`` values a channel, ``S = sum h`` and ``Q = sum h (x - mean)``:
    ``dbias = S``, ``dweight = r Q``, ``dresidual = h`` and ``dx = weight r (h - S/M - (x - mean) r² Q/M)``.
    The function saves ``x`` and ``out``.
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


_norm_activation_function: Callable[
    [Tensor, Tensor, Tensor, Tensor | None, tuple[Tensor, Tensor], float, float, _Bounds], Tensor
] = _NormActivation.apply


def _fused_norm_activation(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, activation: nn.Module) -> Tensor:
    """Compute ``activation(norm(x) + residual)`` in the native kernels; the arguments must pass `fits_norm`.

    Args:
        norm: a batch norm with weight and bias, in training mode, or in evaluation mode if no gradient is needed.
        x: the input (N, C, H, W), C a multiple of 16.
        residual: a tensor of the shape of ``x``, or None.
        activation: an activation with bounds; see `bounds_of`.

    Returns:
        (N, C, H, W) in channels-last layout and in the dtype of ``x``.
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
        statistics = running, norm.momentum, norm.eps
        return _norm_activation_function(x, norm.weight, norm.bias, residual, *statistics, bounds)
    multiplier = norm.weight * (norm.running_var + norm.eps).rsqrt()
    offset = norm.bias - norm.running_mean * multiplier
    return kernels.affine_clamp(x, multiplier, offset, residual, bounds)
