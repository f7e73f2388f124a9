"""Your own torch network, from plain torch to one packed file: binarize it, train both stages, export it.

    python examples/own_model.py [--out digits.biper]

Takes about half a minute on one core. The packed file needs no PyTorch; run_packed.py runs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import biper
from biper.data import load_dataset

BATCH = 64
EPOCHS = {"relaxed": 25, "binary": 15}


class Net(nn.Module):
    """A network in plain torch, with a shortcut, a PReLU, two branches and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.conv1 = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.activation = nn.PReLU(32)
        self.left = nn.Sequential(nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48))
        self.right = nn.Sequential(nn.Conv2d(32, 48, 1, stride=2, bias=False), nn.BatchNorm2d(48))
        self.head = nn.Linear(96, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) normalized images to (N, 10) logits."""
        x = self.stem(images)
        x = self.activation(self.conv1(x) + x)
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.head(F.adaptive_avg_pool2d(F.hardtanh(x), 1).flatten(1))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("digits.biper"))
    options = parser.parse_args()
    torch.manual_seed(0)

    digits = load_dataset("digits")
    mean, std = 0.3, 0.37  # of pixels scaled to [0, 1]
    train, test = ((split.images.permute(0, 3, 1, 2) / 255 - mean) / std for split in (digits.train, digits.test))

    model = Net()
    print(biper.binarize_(model))  # all but the first and the last layer

    for stage, epochs in EPOCHS.items():
        biper.set_stage_(model, stage)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        steps = epochs * (len(train) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        model.train()
        for step in range(steps):
            if step % (len(train) // BATCH) == 0:
                order = torch.randperm(len(train))
            chosen = order[step * BATCH % (len(train) // BATCH * BATCH) :][:BATCH]
            loss = F.cross_entropy(model(train[chosen]), digits.train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            accuracy = (model(test).argmax(1) == digits.test.labels).float().mean()
        print(f"{stage}: {accuracy:.2%} of {len(test)} test images after {epochs} epochs")

    report = biper.export(
        model, options.out, test[:64], classes=[str(digit) for digit in range(10)], normalization=([mean], [std])
    )
    print(f"{options.out}: {report}")


if __name__ == "__main__":
    main()
