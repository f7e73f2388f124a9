"""Two networks in plain torch, as torchvision builds them, for 32x32 pictures: ResNet-18 and MobileNetV2.

Nothing here knows of biper. Both use relu, so that every input of a convolution is at least zero: made binary without
a look at the data they would be constants. ``width`` makes them narrow enough to train on a CPU; 64 is torchvision's
ResNet-18, 1.0 its MobileNetV2. The stems keep the resolution, as is usual for 32x32 pictures.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Sandler et al., "MobileNetV2: Inverted
Residuals and Linear Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, with relu behind the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (N, inputs, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.downsample(x)
        result: Tensor = self.relu(y)
        return result


class ResNet18(nn.Module):
    """ResNet-18: a stem and four pairs of blocks.

    Args:
        classes: the number of classes.
        width: channels of the stem and of the first pair of blocks.
    """

    def __init__(self, classes: int = 10, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        blocks, inputs = [], width
        for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, classes) of pictures (N, 3, 32, 32)."""
        x = self.blocks(self.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, and a 1x1 convolution back without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [_conv_bn_relu(inputs, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (N, inputs, H, W)."""
        y: Tensor = self.conv(x)
        return x + y if self.adds_input else y


class MobileNetV2(nn.Module):
    """MobileNetV2: a stem, seventeen inverted residuals, and a 1x1 convolution in front of the classifier.

    Args:
        classes: the number of classes.
        width: a factor on all channels, which are rounded to multiples of 8.
    """

    SETTINGS = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    """For each group of blocks: the expansion, the channels, the number of blocks and the first stride."""

    def __init__(self, classes: int = 10, width: float = 0.5) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        inputs, last = scaled(32), scaled(1280)
        layers: list[nn.Module] = [_conv_bn_relu(3, inputs, 3)]
        for expansion, channels, count, first_stride in self.SETTINGS:
            for number in range(count):
                stride = first_stride if number == 0 else 1
                layers.append(InvertedResidual(inputs, scaled(channels), stride, expansion))
                inputs = scaled(channels)
        self.features = nn.Sequential(*layers, _conv_bn_relu(inputs, last, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, classes) of pictures (N, 3, 32, 32)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits
