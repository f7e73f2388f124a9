"""A small network for the 8x8 digits, which trains in less than a minute."""

from __future__ import annotations

from torch import Tensor, nn

from biper.methods.settings import Method
from biper.models.layers import Bits, InnerLayers, initialize_
from biper.models.resnet import BasicBlock
from biper.nn import DEFAULT_FREQUENCY, norm_activation


class DigitsCnn(nn.Module):
    """A real 3x3 stem, then two blocks of two convolutions with shortcuts; the second block halves the resolution.

    Args:
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions but the stem.
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits, see `biper.methods.settings`.
        width: channels of the stem and the first block; the second block has twice as many.

    Shapes:
        input (N, in_channels, H, W) with any H and W; output (N, num_classes).
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
        method: Method = Method(),  # noqa: B008  frozen
        width: int = 32,
    ) -> None:
        super().__init__()
        layers = InnerLayers(Bits(bits), frequency, method)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.activation = layers.activation(width)
        self.block1 = BasicBlock(width, width, 1, layers, bi_real=True)
        self.block2 = BasicBlock(width, 2 * width, 2, layers, bi_real=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        x = norm_activation(self.bn1, self.conv1(x), self.activation)
        x = self.block2(self.block1(x))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits
