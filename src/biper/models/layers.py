"""What the model families share: convolutions and activations by bit width, option-A shortcuts, initial weights."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from biper.nn import BinaryConv2d


class Bits(StrEnum):
    """Bits of weights and activations of the inner layers; the first and the last layer are always real."""

    W1A1 = "W1A1"
    W1A32 = "W1A32"
    W32A32 = "W32A32"


class ConvolutionFactory(Protocol):
    """Makes an inner convolution without bias, (in, out, kernel size), with stride, padding and groups."""

    def __call__(self, in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> nn.Conv2d: ...


def convolution_factory(bits: Bits | str, frequency: float) -> ConvolutionFactory:
    """The maker of a network's inner convolutions for a choice of bits and of ω (radians per unit of weight)."""
    bits = Bits(bits)

    def make(in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> nn.Conv2d:
        if bits is Bits.W32A32:
            return nn.Conv2d(in_channels, out_channels, kernel_size, bias=False, **options)
        input_quantizer = nn.Identity() if bits is Bits.W1A32 else None
        return BinaryConv2d(
            in_channels, out_channels, kernel_size, frequency=frequency, input_quantizer=input_quantizer, **options
        )

    return make


def activation(bits: Bits | str) -> nn.Module:
    """What follows a batch norm: hardtanh, or relu where only the weights are binary, as the method's authors have it.

    W32A32 has hardtanh too: it is the W1A1 network without its quantizers, and nothing else.
    """
    return nn.ReLU(inplace=True) if Bits(bits) is Bits.W1A32 else nn.Hardtanh(inplace=True)


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
