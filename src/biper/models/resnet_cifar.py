"""ResNets for small images: a 3x3 stem at full resolution and shortcuts without parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from biper.models.layers import PadShortcut
from biper.models.resnet import ResNet


class CifarResNet(ResNet):
    """A ResNet for small images of any size.

    The published ResNet-20 has the Bi-Real form of `biper.models.resnet`, the wider ones have the plain form.

    Args:
        blocks: number of blocks in each group; every group but the first halves the resolution.
        widths: output channels of each group; the stem has as many as the first group.
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        options: ``bi_real``, ``bits``, ``frequency`` and ``method`` of `biper.models.resnet.ResNet`.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        **options: Any,
    ) -> None:
        stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        super().__init__(
            stem, nn.Identity(), PadShortcut, blocks=blocks, widths=widths, num_classes=num_classes, **options
        )
