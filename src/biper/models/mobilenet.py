"""MobileNet-V1 in binary form: grouped 3x3 convolutions instead of depthwise ones, and shortcuts around them."""

from __future__ import annotations

from torch import Tensor, nn

from biper.models.layers import Bits, PadShortcut, activation, convolution_factory, initialize_
from biper.nn import DEFAULT_FREQUENCY, branch, norm_activation

GROUP_WIDTH = 16
"""Channels of a group of the 3x3 convolutions, as the method's authors have it; the real MobileNet-V1 has 1."""


class MobileNetBlock(nn.Module):
    """A grouped 3x3 convolution with a shortcut, a 1x1 one that widens, and a 1x1 one with a shortcut.

    Each is followed by batch norm, its shortcut if it has one, and the activation. The stride is that of the
    grouped convolution, whose shortcut is then averaged over 2x2 pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, bits: Bits | str, frequency: float) -> None:
        super().__init__()
        conv = convolution_factory(bits, frequency)
        groups = in_channels // GROUP_WIDTH
        self.conv1 = conv(in_channels, in_channels, 3, stride=stride, padding=1, groups=groups)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = conv(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv3 = conv(out_channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(in_channels, in_channels, stride)
        self.activation = activation(bits)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out, x = branch(self.conv1, x)
        out = norm_activation(self.bn1, out, self.activation, self.shortcut(x))
        out = norm_activation(self.bn2, self.conv2(out), self.activation)
        out, residual = branch(self.conv3, out)
        return norm_activation(self.bn3, out, self.activation, residual)


class MobileNet(nn.Module):
    """MobileNet-V1 (Howard et al., 2017) in the binary form of the method's authors, for images of ImageNet's size.

    Args:
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions but the stem.
        frequency: ω of the binary layers, in radians per unit of weight.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    stem_width = 32
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    halving_blocks = (1, 3, 5, 11)
    """Which blocks, counted from 0, have stride 2; the stem has it too."""

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, self.stem_width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.stem_width)
        self.activation = activation(bits)
        blocks = []
        channels = self.stem_width
        for index, width in enumerate(self.widths):
            stride = 2 if index in self.halving_blocks else 1
            blocks.append(MobileNetBlock(channels, width, stride, bits, frequency))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.blocks(norm_activation(self.bn1, self.conv1(x), self.activation))
        return self.fc(self.pool(x).flatten(1))
