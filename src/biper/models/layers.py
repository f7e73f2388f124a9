"""Parts that all model families share: inner convolutions and activations, option-A shortcuts, initial weights."""

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
    """Makes the inner convolutions and the activations of a network, for a choice of bits and of a method.

    Attributes:
        bits: bits of weights and activations.
        frequency: ω, in radians per unit of weight; methods without a wave ignore it.
        method: how weights and inputs become bits.
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
        """The activation that follows a batch norm of this many channels: that of the method, if the method has one.

        Otherwise it is hardtanh, or relu where only the weights are binary, as in the code of the authors of BiPer.
        W32A32 has hardtanh too, so that it differs from the W1A1 network in nothing but the quantizers.
        """
        own = make_activation(self.method, channels)
        if own is not None:
            return own
        return nn.ReLU(inplace=True) if self.bits is Bits.W1A32 else nn.Hardtanh(inplace=True)


class PadShortcut(nn.Module):
    """A shortcut without parameters, which averages pixels and adds channels of zeros on both sides.

    It is option A of the ResNet paper with another subsampling: the paper keeps every ``stride``-th pixel, the method's
    authors average each ``stride`` x ``stride`` window (at an odd border, the pixels of it that are inside the image).
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
    """Set the weights of every convolution and linear layer in place: normal with ``std = sqrt(2 / fan_in)``.

    Source: K. He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
