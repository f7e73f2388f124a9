"""ReActNet: learned shifts before the sign, and an activation that learns its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ModelError
from biper.quantizers.base import Quantizer
from biper.quantizers.windowed import ApproxSign


class RSign(Quantizer):
    r"""Inputs of ReActNet: a sign with a learned threshold for each channel.

    Forward ``+1 if x >= β_c else -1``. Gradient by ``x``: ``max(0, 2 - 2|x - β_c|)``; by ``β_c`` minus the sum of
    that over the channel. β starts at 0.

    Args:
        channels: of the input: dimension 1 of (N, C, H, W), or the last one of (N, ..., C).

    Source: Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions", ECCV
    2020, equation 2; the gradient of Bi-Real Net.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(channels))
        self.sign = ApproxSign()

    def real(self, x: Tensor) -> Tensor:
        """``x - β``."""
        return x - _of_channels(self.threshold, x)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a (N, C, H, W) or (N, ..., C) tensor."""
        return self.sign(self.real(x))

    def extra_repr(self) -> str:
        return f"{len(self.threshold)}"


class RPReLU(nn.Module):
    r"""The activation of ReActNet: a PReLU with learned shifts, each a number a channel.

    ``y = x - γ + ζ if x >= γ else b (x - γ) + ζ``; γ and ζ start at 0, the slope b at 1/4.

    Args:
        channels: of the input (N, C, H, W).

    Source: Liu et al., ReActNet, ECCV 2020, equation 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to a (N, C, H, W) tensor."""
        return F.prelu(x - _of_channels(self.shift_in, x), self.slope) + _of_channels(self.shift_out, x)

    def extra_repr(self) -> str:
        return f"{len(self.slope)}"


def _of_channels(numbers: Tensor, x: Tensor) -> Tensor:
    """One number a channel in a shape that broadcasts with (N, C, H, W) or (N, ..., C).

    Raises:
        ModelError: ``x`` has another number of channels.
    """
    found = x.shape[1] if x.dim() == 4 else x.shape[-1]
    if found != len(numbers):
        raise ModelError(f"expected an input of {len(numbers)} channels, got {found} (shape {tuple(x.shape)})")
    return (numbers.view(-1, 1, 1) if x.dim() == 4 else numbers).to(x.dtype)
