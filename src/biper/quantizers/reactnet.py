"""ReActNet: a sign with learned thresholds (`RSign`) and an activation with learned shifts (`RPReLU`)."""

from __future__ import annotations

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
        if self.fits_kernels(x) and x.is_contiguous(memory_format=torch.channels_last):
            return _native_rprelu(x, self.shift_in, self.slope, self.shift_out)
        return F.prelu(x - _broadcast(self.shift_in, x), self.slope) + _broadcast(self.shift_out, x)

    def fits_kernels(self, x: Tensor) -> bool:
        """Whether the native kernels can work on ``x`` in channels-last layout with these parameters."""
        return (
            not torch.compiler.is_compiling()
            and x.is_floating_point()
            and availability.fits(x)
            and x.shape[1] == len(self.slope)
            and self.slope.dtype is torch.float32
        )

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


class _NativeRPReLU(torch.autograd.Function):
    """`RPReLU` in native kernels, in one pass forward and one backward. It saves the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift_in: Tensor, slope: Tensor, shift_out: Tensor) -> Tensor:
        ctx.save_for_backward(x, shift_in, slope)
        return kernels.affine_rprelu(x, torch.ones_like(slope), -shift_in, None, slope, shift_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, shift_in, slope = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        ones, zeros = torch.ones_like(slope), torch.zeros_like(slope)
        grad_x, sums = kernels.rprelu_backward(grad, x, ones, -shift_in, None, slope, zeros)
        by_u, _, by_shift_out, by_slope = sums.float()
        return grad_x, -by_u, by_slope, by_shift_out


_native_rprelu: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _NativeRPReLU.apply
