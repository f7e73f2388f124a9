"""ResNets: a stem, groups of blocks of two convolutions, global average pooling, batch norm and a linear layer.

The method's authors use two forms:

- *Bi-Real*: each convolution has a shortcut of its own and the stem ends in the activation;
- *plain*: one shortcut spans the two convolutions of a block and the stem has no activation.

`resnet_cifar` and `resnet_imagenet` choose the stem and the shortcuts that change the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from biper.methods.settings import Method
from biper.models.layers import Bits, InnerLayers, PadShortcut, initialize_
from biper.nn import DEFAULT_FREQUENCY, branch, norm_activation

ShortcutFactory = Callable[[int, int, int], nn.Module]
"""A function of (in channels, out channels, stride) that makes a shortcut which changes the shape."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and activation; with ``bi_real`` each of them has a shortcut of its own.

    ``shortcut`` makes the shortcut if the block changes the shape; otherwise the shortcut is the identity.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        layers: InnerLayers,
        *,
        bi_real: bool,
        shortcut: ShortcutFactory = PadShortcut,
    ) -> None:
        super().__init__()
        self.bi_real = bi_real
        self.conv1 = layers.convolution(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = layers.convolution(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else shortcut(in_channels, out_channels, stride)
        self.activation1 = layers.activation(out_channels)
        self.activation2 = layers.activation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out, x = branch(self.conv1, x)
        shortcut = self.shortcut(x)
        out = norm_activation(self.bn1, out, self.activation1, shortcut if self.bi_real else None)
        out, residual = branch(self.conv2, out)
        return norm_activation(self.bn2, out, self.activation2, residual if self.bi_real else shortcut)


class ResNet(nn.Module):
    """A ResNet from its stem to its logits, in one of the two forms that `biper.models.resnet` describes.

    Args:
        stem: the first convolution, with real weights and as many output channels as the first group.
        stem_pool: the module after the batch norm and the activation of the stem.
        shortcut: makes the shortcuts that change the shape.
        blocks: number of blocks in each group; every group but the first halves the resolution.
        widths: output channels of each group.
        bi_real: whether the network has the Bi-Real form; else it has the plain one.
        num_classes: outputs of the last layer.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions of the blocks.
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits, see `biper.methods.settings`.

    Shapes:
        input (N, C, H, W) with the channels C of the stem and any H and W; output (N, num_classes).
    """

    def __init__(
        self,
        stem: nn.Conv2d,
        stem_pool: nn.Module,
        shortcut: ShortcutFactory,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        bi_real: bool,
        num_classes: int,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
        method: Method = Method(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        layers = InnerLayers(Bits(bits), frequency, method)
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(stem.out_channels)
        self.stem_activation = layers.activation(stem.out_channels) if bi_real else nn.Identity()
        self.stem_pool = stem_pool
        groups = []
        channels = stem.out_channels
        for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            group = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                block = BasicBlock(channels, width, stride, layers, bi_real=bi_real, shortcut=shortcut)
                group.append(block)
                channels = width
            groups.append(nn.Sequential(*group))
        self.groups = nn.ModuleList(groups)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.bn2 = nn.BatchNorm1d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = self.stem_pool(norm_activation(self.bn1, self.conv1(x), self.stem_activation))
        for group in self.groups:
            x = group(x)
        x = self.bn2(self.pool(x).flatten(1))
        logits: Tensor = self.fc(x)
        return logits
