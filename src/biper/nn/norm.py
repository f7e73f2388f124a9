"""A batch norm followed by a residual addition and an activation, in one native kernel where possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.fast import availability
from biper.fast import norm as kernels
from biper.fast.availability import has_hooks
from biper.quantizers import RPReLU

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
            `torch.nn.Identity`, and `biper.quantizers.RPReLU`; any other runs after it.
        residual: a tensor of the shape of ``x`` that is added before the activation, or None.

    Returns:
        A tensor of the shape of ``x``.
    """
    if _is_rprelu(activation) and fits_norm(norm, x, residual, activation) and activation.fits_kernels(x):
        assert isinstance(norm, nn.BatchNorm2d)
        return _fused_norm_rprelu(norm, x, residual, activation)
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


def _is_rprelu(activation: nn.Module) -> TypeGuard[RPReLU]:
    """Whether the activation is an `RPReLU`, and not a class made from it, which may compute something else."""
    return type(activation) is RPReLU


def fits_norm(norm: nn.Module, x: Tensor, residual: Tensor | None, activation: nn.Module) -> bool:
    """Return whether the native kernel can compute these modules, if it knows the activation."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and (norm.training or not torch.is_grad_enabled())
        and (residual is None or residual.shape == x.shape)
        and not torch.compiler.is_compiling()
        and availability.fits(x)
        and _has_plain_numbers(norm, x.shape[1])
        and not has_hooks(norm, activation)
    )


def _has_plain_numbers(norm: nn.BatchNorm2d, channels: int) -> bool:
    """Whether weight, bias and running statistics are as the kernels read them: (C,) float32, dense, on the CPU."""
    return all(
        tensor is not None
        and tensor.dtype is torch.float32
        and tensor.shape == (channels,)
        and tensor.is_contiguous()
        and tensor.is_cpu
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )


@dataclass(frozen=True)
class _Batch:
    """The statistics of a batch norm in training, and the affine function that they make of it.

    Attributes:
        statistics: the mean and ``1 / sqrt(var + eps)`` of each channel, (2, C) float64.
        multiplier, offset: (C,) float32; the norm is ``x * multiplier + offset``.
        mean: of each channel, (C,) float32.
    """

    statistics: Tensor
    multiplier: Tensor
    offset: Tensor
    mean: Tensor

    @classmethod
    def of(cls, x: Tensor, norm: nn.BatchNorm2d) -> _Batch:
        """Compute the statistics of ``x``, and update the running statistics of the norm."""
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        statistics, affine = kernels.batch_statistics(x, norm)
        return cls(statistics, *affine.unbind())

    def gradients(
        self, inner: Tensor, x: Tensor, weight: Tensor, sums: Tensor, *, needs_x: bool, needs_residual: bool
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
        """Compute the gradients by ``x``, by weight and bias of the norm, and by a residual that is added after it.

        Args:
            inner: the gradient by the result of the norm, which is also that by the residual. It is overwritten where
                the residual needs no gradient.
            x, weight: the input and the weight of the norm.
            sums: those of `biper.fast.norm.norm_backward`, which has the formulas.
            needs_x, needs_residual: which of these gradients are wanted; the others are None.
        """
        grad_x = None
        if needs_x:
            grad_x = torch.empty_like(x) if needs_residual else inner
        by_weight, by_bias = kernels.norm_backward(inner, x, weight, self.statistics, sums, grad_x)
        return grad_x, by_weight, by_bias, inner if needs_residual else None


class _NormActivation(torch.autograd.Function):
    r"""``out = clamp(weight (x - mean) r + bias + residual)`` with the mean and ``r = 1/sqrt(var + eps)`` of the batch.

    `_Batch.gradients` has the gradients, for ``h`` the gradient inside the clamp. The function saves ``x`` and ``out``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        _bias: Tensor,
        residual: Tensor | None,
        norm: nn.BatchNorm2d,
        bounds: _Bounds,
    ) -> Tensor:
        batch = _Batch.of(x, norm)
        out = kernels.affine_clamp(x, batch.multiplier, batch.offset, residual, bounds)
        ctx.save_for_backward(x, out, weight)
        ctx.batch, ctx.bounds = batch, bounds
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, weight = ctx.saved_tensors
        batch = ctx.batch
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        inner, sums = kernels.clamp_backward(grad, out, x, batch.mean, ctx.bounds)
        needs_x, _, _, needs_residual, *_ = ctx.needs_input_grad
        return *batch.gradients(inner, x, weight, sums, needs_x=needs_x, needs_residual=needs_residual), None, None


_norm_activation_function: Callable[[Tensor, Tensor, Tensor, Tensor | None, nn.BatchNorm2d, _Bounds], Tensor] = (
    _NormActivation.apply
)


class _NormRPReLU(torch.autograd.Function):
    r"""`RPReLU` of ``weight (x - mean) r + bias + residual``, with the mean and ``r`` of the batch as above.

    With ``h`` the gradient by the argument of the activation, ``g`` the one by its result, ``u`` the argument minus γ,
    and sums over a channel: ``dγ = -sum(h)``, ``db = sum(g min(u, 0))``, ``dζ = sum(g)``, and the others as in
    `_NormActivation`. The function saves ``x`` and ``residual``, and computes ``u`` again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        _bias: Tensor,
        residual: Tensor | None,
        norm: nn.BatchNorm2d,
        shift_in: Tensor,
        slope: Tensor,
        shift_out: Tensor,
    ) -> Tensor:
        batch = _Batch.of(x, norm)
        offset = batch.offset - shift_in
        ctx.save_for_backward(x, residual, weight, offset, slope)
        ctx.batch = batch
        return kernels.affine_rprelu(x, batch.multiplier, offset, residual, slope, shift_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, weight, offset, slope = ctx.saved_tensors
        batch = ctx.batch
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        affine = batch.multiplier, offset, residual
        inner, sums = kernels.rprelu_backward(grad, x, *affine, slope, batch.mean)
        needs_x, _, _, needs_residual, *_ = ctx.needs_input_grad
        of_norm = batch.gradients(inner, x, weight, sums, needs_x=needs_x, needs_residual=needs_residual)
        by_shift_out, by_slope = sums[2:].to(slope.dtype)
        return *of_norm, None, -of_norm[2], by_slope, by_shift_out


_norm_rprelu_function: Callable[
    [Tensor, Tensor, Tensor, Tensor | None, nn.BatchNorm2d, Tensor, Tensor, Tensor], Tensor
] = _NormRPReLU.apply


def _running_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The multiplier and the offset of a batch norm in evaluation mode, (C,) each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    multiplier = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return multiplier, norm.bias - norm.running_mean * multiplier


def _channels_last(x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Bring both into channels-last layout and the dtype of ``x``."""
    if residual is not None:
        residual = residual.to(x.dtype).contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last), residual


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
    x, residual = _channels_last(x, residual)
    if norm.training:
        return _norm_activation_function(x, norm.weight, norm.bias, residual, norm, bounds)
    return kernels.affine_clamp(x, *_running_affine(norm), residual, bounds)


def _fused_norm_rprelu(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, activation: RPReLU) -> Tensor:
    """The same as `_fused_norm_activation` for an `RPReLU`."""
    x, residual = _channels_last(x, residual)
    shift_in, slope, shift_out = activation.shift_in, activation.slope, activation.shift_out
    if norm.training:
        return _norm_rprelu_function(x, norm.weight, norm.bias, residual, norm, shift_in, slope, shift_out)
    multiplier, offset = _running_affine(norm)
    return kernels.affine_rprelu(x, multiplier, offset - shift_in, residual, slope, shift_out)
