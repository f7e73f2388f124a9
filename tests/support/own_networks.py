"""Networks of a user's own, and a factory of them, as a recipe names it."""

from __future__ import annotations

from torch import Tensor, nn


class SignalNet(nn.Module):
    """A 1-D network with relu, as a user would write it."""

    def __init__(self, channels: int = 2, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, width, 3, padding=1),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(2))


def image_net(channels: int = 3, classes: int = 2, width: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def no_network() -> str:
    return "a text"


def failing() -> nn.Module:
    raise RuntimeError("no weights\nof that name")
