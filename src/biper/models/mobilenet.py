"""MobileNet-V1 in binary form: grouped 3x3 convolutions instead of depthwise ones, and shortcuts around them."""

from __future__ import annotations

from torch import Tensor, nn

from biper.methods.settings import Method
from biper.models.layers import Bits, InnerLayers, PadShortcut, initialize_
from biper.nn import DEFAULT_FREQUENCY, branch, norm_activation

GROUP_WIDTH = 16
"""Channels in a group of the 3x3 convolutions, as in the code of the method's authors; MobileNet-V1 itself has 1."""


class MobileNetBlock(nn.Module):
    """A grouped 3x3 convolution with a shortcut, a 1x1 one that widens, and a 1x1 one with a shortcut.

    Each convolution is followed by batch norm, its shortcut if it has one, and the activation. The grouped convolution
    has the stride; with stride 2 its shortcut is averaged over 2x2 pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, layers: InnerLayers) -> None:
        super().__init__()
        groups = in_channels // GROUP_WIDTH
        self.conv1 = layers.convolution(in_channels, in_channels, 3, stride=stride, padding=1, groups=groups)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = layers.convolution(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv3 = layers.convolution(out_channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(in_channels, in_channels, stride)
        self.activation1 = layers.activation(in_channels)
        self.activation2 = layers.activation(out_channels)
        self.activation3 = layers.activation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out, x = branch(self.conv1, x)
        out = norm_activation(self.bn1, out, self.activation1, self.shortcut(x))
        out = norm_activation(self.bn2, self.conv2(out), self.activation2)
        out, residual = branch(self.conv3, out)
        return norm_activation(self.bn3, out, self.activation3, residual)


class MobileNet(nn.Module):
    """MobileNet-V1 (Howard et al., 2017) in the binary form of the method's authors, for images of ImageNet's size.

    Args:
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions but the stem.
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits, see `biper.methods.settings`.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    stem_width = 32
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    halving_blocks = (1, 3, 5, 11)
    """Indices, from 0, of the blocks with stride 2; the stem has stride 2 as well."""

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
        method: Method = Method(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        layers = InnerLayers(Bits(bits), frequency, method)
        self.conv1 = nn.Conv2d(in_channels, self.stem_width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.stem_width)
        self.activation = layers.activation(self.stem_width)
        blocks = []
        channels = self.stem_width
        for index, width in enumerate(self.widths):
            stride = 2 if index in self.halving_blocks else 1
            blocks.append(MobileNetBlock(channels, width, stride, layers))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.blocks(norm_activation(self.bn1, self.conv1(x), self.activation))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits
