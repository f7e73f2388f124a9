"""ResNets for ImageNet: a stem that quarters the resolution, and shortcuts with real 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from biper.models.resnet import ResNet


def downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Make a shortcut with weights, option B of the ResNet paper: a real 1x1 convolution and batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class ImageNetResNet(ResNet):
    """A ResNet in the Bi-Real form of `biper.models.resnet` for images of ImageNet's size.

    Args:
        blocks: number of blocks in each of the four groups.
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        options: ``bits``, ``frequency`` and ``method`` of `biper.models.resnet.ResNet`.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    widths = (64, 128, 256, 512)

    def __init__(self, blocks: Sequence[int], *, num_classes: int = 1000, in_channels: int = 3, **options: Any) -> None:
        stem = nn.Conv2d(in_channels, self.widths[0], 7, stride=2, padding=3, bias=False)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        super().__init__(
            stem,
            pool,
            downsample,
            blocks=blocks,
            widths=self.widths,
            bi_real=True,
            num_classes=num_classes,
            **options,
        )
