"""VGG-Small: six 3x3 convolutions, the first real and the others binary, and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from biper.methods.settings import Method
from biper.models.layers import Bits, InnerLayers, initialize_
from biper.nn import DEFAULT_FREQUENCY, norm_activation


class VggLayer(nn.Module):
    """A convolution, a 2x2 max-pool if ``pools`` is true, batch norm and activation."""

    def __init__(self, conv: nn.Conv2d, pools: bool, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.pool = nn.MaxPool2d(2) if pools else nn.Identity()
        self.bn = nn.BatchNorm2d(conv.out_channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W); max-pooling halves H and W."""
        return norm_activation(self.bn, self.pool(self.conv(x)), self.activation)


class VggSmall(nn.Module):
    """VGG-Small (128-128-256-256-512-512) for small images of at least 8x8 pixels.

    Convolutions 1, 3 and 5 (counted from 0) are followed by a 2x2 max-pool, before their batch norm. The
    classifier takes a 4x4 map, to which the three pools reduce an image of 32x32 pixels; maps of another size are
    averaged to 4x4.

    Args:
        num_classes: outputs of the last layer.
        in_channels: channels of the images.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"`` for all convolutions but the first.
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits, see `biper.methods.settings`.

    Shapes:
        input (N, in_channels, H, W) with H and W at least 8; output (N, num_classes).
    """

    widths = (128, 128, 256, 256, 512, 512)

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        bits: Bits | str = Bits.W1A1,
        frequency: float = DEFAULT_FREQUENCY,
        method: Method = Method(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        inner = InnerLayers(Bits(bits), frequency, method)
        layers: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate(self.widths):
            convolution = (
                nn.Conv2d(channels, width, 3, padding=1, bias=False)
                if index == 0
                else inner.convolution(channels, width, 3, padding=1)
            )
            layers.append(VggLayer(convolution, index % 2 == 1, inner.activation(width)))
            channels = width
        self.layers = nn.ModuleList(layers)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear(channels * 16, num_classes)
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        for layer in self.layers:
            x = layer(x)
        if x.shape[-2:] != (4, 4):
            x = self.pool(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits
