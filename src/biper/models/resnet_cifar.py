"""ResNets for small images: a 3x3 stem at full resolution and shortcuts without parameters.

Two forms, as the method's authors use them:

- *Bi-Real* (ResNet-20): each convolution has a shortcut of its own and the stem ends in the activation;
- *plain* (ResNet-18): one shortcut spans the two convolutions of a block and the stem has no activation.

Both end in global average pooling, a batch norm and a linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from biper.models.layers import Bits, ConvolutionFactory, PadShortcut, convolution_factory, initialize_
from biper.nn import DEFAULT_FREQUENCY


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and hardtanh; ``bi_real`` gives each a shortcut of its own."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, conv: ConvolutionFactory, *, bi_real: bool
    ) -> None:
        super().__init__()
        self.bi_real = bi_real
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else PadShortcut(in_channels, out_channels, stride)
        self.activation = nn.Hardtanh(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out = self.bn1(self.conv1(x))
        if self.bi_real:
            out += self.shortcut(x)
        out = self.activation(out)
        residual = out if self.bi_real else self.shortcut(x)
        out = self.bn2(self.conv2(out))
        out += residual
        return self.activation(out)


class CifarResNet(nn.Module):
    """A ResNet for small images of any size; see the module for its two forms.

    Args:
        blocks: number of blocks in each group; every group but the first halves the resolution.
        widths: output channels of each group; the stem has the first group's.
        bi_real: which of the two forms.
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions but the stem.
        frequency: ω of the binary layers, in radians per unit of weight.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        bi_real: bool,
        num_classes: int = 10,
        in_channels: int = 3,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
    ) -> None:
        super().__init__()
        conv = convolution_factory(bits, frequency)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stem_activation = nn.Hardtanh(inplace=True) if bi_real else nn.Identity()
        groups = []
        channels = widths[0]
        for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            group = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                group.append(BasicBlock(channels, width, stride, conv, bi_real=bi_real))
                channels = width
            groups.append(nn.Sequential(*group))
        self.groups = nn.ModuleList(groups)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.stem_activation(self.bn1(self.conv1(x)))
        for group in self.groups:
            x = group(x)
        x = self.bn2(self.pool(x).flatten(1))
        return self.fc(x)
