"""A small U-Net whose output is a map: binarized, trained on generated shapes, and packed.

    python examples/segmentation.py [--out shapes.biper]
    biper predict shapes.biper shapes.png --out map.png

Takes about half a minute on one core. Beside the packed file it writes shapes.png, a test picture, and
shapes-truth.png, the class of each of its pixels. The packed file needs no PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import biper

CLASSES = ("background", "disk", "square")
SIZE = 32
STEPS = {"relaxed": 60, "binary": 30}
BATCH = 16
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of one level."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Two levels, with skip connections by concatenation.

    Source: O. Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    """

    def __init__(self, width: int = 24, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.down0, self.down1 = block(3, width), block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up1, self.up0 = block(6 * width, 2 * width), block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images to (N, classes, H, W) logits; H and W are multiples of 4."""
        full = self.down0(images)
        half = self.down1(F.max_pool2d(full, 2))
        quarter = self.bottom(F.max_pool2d(half, 2))
        half = self.up1(torch.cat([F.interpolate(quarter, scale_factor=2, mode="nearest"), half], 1))
        full = self.up0(torch.cat([F.interpolate(half, scale_factor=2, mode="nearest"), full], 1))
        return self.head(full)


def draw(random: np.random.Generator, size: int = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A picture (size, size, 3) of a disk and a square on a noisy ground, and the class of each pixel."""
    pixels = random.normal(90, 25, (size, size, 3))
    labels = np.zeros((size, size), np.int64)
    rows, columns = np.mgrid[:size, :size]
    for label in random.permutation([1, 2]):
        row, column = random.integers(size // 5, size - size // 5, 2)
        radius = random.integers(size // 8, size // 5)
        across = np.maximum(abs(rows - row), abs(columns - column))
        inside = across <= radius if label == 2 else (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        tint = random.uniform(-30, 30, 3) + (60 if label == 1 else -20)
        pixels[inside] = random.normal(150, 25, (inside.sum(), 3)) + tint
        labels[inside] = label
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def batch(random: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Normalized pictures (count, 3, SIZE, SIZE), and the classes of their pixels (count, SIZE, SIZE)."""
    pixels, labels = (np.stack(parts) for parts in zip(*(draw(random) for _ in range(count)), strict=True))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1), torch.from_numpy(labels)


def overlap(found: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """The mean over the classes of intersection divided by union, 0 to 1."""
    same = [((found == label) & (labels == label)).sum() for label in range(len(CLASSES))]
    either = [((found == label) | (labels == label)).sum() for label in range(len(CLASSES))]
    return float(np.mean([part / max(whole, 1) for part, whole in zip(same, either, strict=True)]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("shapes.biper"))
    options = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    model = UNet()
    print(biper.binarize_(model, example=batch(random, 8)[0]))
    for stage, steps in STEPS.items():
        biper.set_stage_(model, stage)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        model.train()
        for _ in range(steps):
            images, labels = batch(random, BATCH)
            loss = F.cross_entropy(model(images), labels, weight=torch.tensor([1.0, 3.0, 3.0]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        images, labels = batch(np.random.default_rng(1), 64)
        with torch.inference_mode():
            found = model.eval()(images).argmax(1)
        print(f"{stage}: mean intersection over union {overlap(found.numpy(), labels.numpy()):.3f} on 64 new pictures")

    report = biper.export(
        model,
        options.out,
        images[:8],
        classes=CLASSES,
        normalization=(MEAN, STD),
        preprocessing=biper.Preprocessing((SIZE, SIZE)),
    )
    print(f"{options.out}: {report}")
    pixels, truth = draw(np.random.default_rng(2))
    Image.fromarray(pixels).save(options.out.with_suffix(".png"))
    Image.fromarray(truth.astype(np.uint8)).save(options.out.with_name(f"{options.out.stem}-truth.png"))


if __name__ == "__main__":
    main()
