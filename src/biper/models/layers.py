"""What the model families share: convolutions and activations by bit width, option-A shortcuts, initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from biper.methods.build import make_activation, make_input_quantizer, make_weight_quantizer
from biper.methods.settings import Method
from biper.nn import BinaryConv2d


class Bits(StrEnum):
    """Bits of weights and activations of the inner layers; the first and the last layer are always real."""

    W1A1 = "W1A1"
    W1A32 = "W1A32"
    W32A32 = "W32A32"


@dataclass(frozen=True)
class InnerLayers:
    """Makes a network's inner convolutions and its activations, for a choice of bits and of a method.

    ``frequency`` is ω where the method has one, in radians per unit of weight.
    """

    bits: Bits
    frequency: float
    method: Method

    def convolution(self, in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> nn.Conv2d:
        """An inner convolution without bias; ``options`` are stride, padding and groups."""
        if self.bits is Bits.W32A32:
            return nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, **options)
        real_input = self.bits is Bits.W1A32
        return BinaryConv2d(
            in_channels,
            out_channels,
            kernel_size,
            weight_quantizer=make_weight_quantizer(self.method, self.frequency, out_channels),
            input_quantizer=nn.Identity() if real_input else make_input_quantizer(self.method, in_channels),
            **options,
        )

    def activation(self, channels: int) -> nn.Module:
        """What follows a batch norm of this many channels: the method's own activation if it brings one.

        Else hardtanh, or relu where only the weights are binary, as the authors of BiPer have it. W32A32 has hardtanh
        too: it is the W1A1 network without its quantizers, and nothing else.
        """
        own = make_activation(self.method, channels)
        if own is not None:
            return own
        return nn.ReLU(inplace=True) if self.bits is Bits.W1A32 else nn.Hardtanh(inplace=True)


class PadShortcut(nn.Module):
    """A shortcut without parameters: averaged pixels and zero channels on both sides.

    Option A of the ResNet paper, but for the pixels: where that keeps every ``stride``-th one, the method's
    authors average each ``stride`` x ``stride`` window (at an odd border: the pixels inside the image).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.channel_padding = (before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, *self.channel_padding)) if any(self.channel_padding) else x

    def extra_repr(self) -> str:
        return f"stride={self.stride}, channel_padding={self.channel_padding}"


def initialize_(model: nn.Module) -> None:
    """Kaiming-normal weights, ``std = sqrt(2 / fan_in)``, for every convolution and linear layer, in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
