"""ReActNet: a sign with learned thresholds (`RSign`) and an activation with learned shifts (`RPReLU`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biper.errors import ModelError
from biper.fast import availability
from biper.fast import norm as kernels
from biper.quantizers.base import ShiftedSign
from biper.quantizers.windowed import ApproxSign


class RSign(ShiftedSign):
    r"""Input quantizer of ReActNet: a sign with a learned threshold β for each channel.

    Forward:

        +1 if x >= β else -1

    Gradients used, with the incoming gradient ``g``; the gradient by β is a sum over the channel:

        by x: g max(0, 2 - 2|x - β|)
        by β: -sum of g max(0, 2 - 2|x - β|)

    The parameter ``threshold``, (channels,), holds β and starts at 0.

    Args:
        channels: the number of channels of the input: dimension 1 of (N, C, H, W), or the last one of (N, ..., C).

    Source: Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions", ECCV
    2020, equation 2; the gradient as in Bi-Real Net.
    """

    has_own_scale = False

    def __init__(self, channels: int) -> None:
        super().__init__(ApproxSign())
        self.threshold = nn.Parameter(torch.zeros(channels))

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``x - β`` for an input (N, C, H, W) or (N, ..., C).

        Raises:
            ModelError: the input has another number of channels.
        """
        if _fits(x, self.threshold):
            return _shifted(x, self.threshold)
        return x - _broadcast(self.threshold, x)

    def extra_repr(self) -> str:
        return f"{len(self.threshold)}"


class RPReLU(nn.Module):
    r"""The activation of ReActNet: a PReLU with learned shifts and slopes, one of each for every channel.

    Forward:

        x - γ + ζ        if x >= γ
        b (x - γ) + ζ    if x < γ

    The gradients are the derivatives of this function. The parameters, each (channels,), are ``shift_in`` (γ, starts at
    0), ``slope`` (b, starts at 1/4) and ``shift_out`` (ζ, starts at 0).

    Args:
        channels: the number of channels of the input: dimension 1 of (N, C, H, W).

    Source: Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions", ECCV
    2020, equation 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to a floating-point tensor (N, C, H, W), in its shape and dtype.

        Raises:
            ModelError: the input has another number of channels.
        """
        if _fits(x, self.shift_in):
            return _native_rprelu(x, self.shift_in, self.slope, self.shift_out)
        return F.prelu(x - _broadcast(self.shift_in, x), self.slope) + _broadcast(self.shift_out, x)

    def extra_repr(self) -> str:
        return f"{len(self.slope)}"


def _broadcast(numbers: Tensor, x: Tensor) -> Tensor:
    """Reshape one number for each channel so that it broadcasts with (N, C, H, W) or (N, ..., C).

    Raises:
        ModelError: ``x`` has another number of channels.
    """
    found = x.shape[1] if x.dim() == 4 else x.shape[-1]
    if found != len(numbers):
        raise ModelError(f"expected an input of {len(numbers)} channels, got {found} (shape {tuple(x.shape)})")
    return (numbers.view(-1, 1, 1) if x.dim() == 4 else numbers).to(x.dtype)


def _fits(x: Tensor, numbers: Tensor) -> bool:
    """Whether the native functions below can work on ``x``, with one number for each of its channels."""
    return (
        not torch.compiler.is_compiling()
        and x.is_floating_point()
        and availability.fits(x)
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.shape[1] == len(numbers)
        and numbers.dtype is torch.float32
    )


_EVERYWHERE, _ABOVE_ZERO = (-math.inf, math.inf), (0.0, math.inf)
_UP_TO_ZERO = (-math.inf, torch.finfo(torch.float32).tiny)
"""The upper bound is above zero because the kernel takes values on a bound as outside, and zero must be inside."""


class _Shifted(torch.autograd.Function):
    """``x - numbers`` with one number for each channel. It saves nothing."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, numbers: Tensor) -> Tensor:
        return kernels.affine_clamp(x, torch.ones_like(numbers), -numbers, None, _EVERYWHERE)

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = grad.contiguous(memory_format=torch.channels_last)
        return grad, -kernels.channel_sums(grad)[0].float()


_shifted: Callable[[Tensor, Tensor], Tensor] = _Shifted.apply


class _NativeRPReLU(torch.autograd.Function):
    """`RPReLU` in native kernels. It saves ``u = x - γ``.

    With the incoming gradient ``g``, with ``h = g`` where ``u <= 0`` and 0 elsewhere, and with sums over a channel:
    ``dx = g + (b - 1) h``, ``dγ = -sum(dx)``, ``db = sum(h u)`` and ``dζ = sum(g)``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift_in: Tensor, slope: Tensor, shift_out: Tensor) -> Tensor:
        ones, zeros = torch.ones_like(slope), torch.zeros_like(slope)
        u = kernels.affine_clamp(x, ones, -shift_in, None, _EVERYWHERE)
        above = kernels.affine_clamp(u, ones, zeros, None, _ABOVE_ZERO)
        ctx.save_for_backward(u, slope)
        return kernels.norm_backward(above, u, 1 - slope, slope, shift_out, above)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        u, slope = ctx.saved_tensors
        grad = grad.to(u.dtype).contiguous(memory_format=torch.channels_last)
        zeros = torch.zeros_like(slope)
        inner, (inner_sum, by_slope) = kernels.clamp_backward(grad, u, u, zeros, _UP_TO_ZERO)
        total = kernels.channel_sums(grad)[0]
        grad_x = kernels.norm_backward(inner, grad, slope - 1, torch.ones_like(slope), zeros, inner)
        by_shift_in = -(total + (slope - 1) * inner_sum)
        return grad_x, by_shift_in.float(), by_slope.float(), total.float()


_native_rprelu: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _NativeRPReLU.apply
