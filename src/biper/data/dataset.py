"""A data set in memory: one uint8 tensor of images a split, and the splits themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from biper.data.share import Share
from biper.data.specs import DatasetSpec
from biper.errors import DataError

HELD_OUT_SEED = 20240612
"""Seeds the choice of held-out images: the same images in every run, whatever the run's own seed."""

HELD_OUT_FRACTION = 0.1
"""Share of the training images that is held out: 5,000 of CIFAR's 50,000."""

SPLITS = ("train", "held-out", "test")


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C) uint8 and labels (N,) int64, on one device."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4 or len(self.images) != len(self.labels):
            raise DataError(
                f"a split expects uint8 images (N, H, W, C) and N labels, got {self.images.dtype} "
                f"{tuple(self.images.shape)} and {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))

    def part(self, chosen: Tensor) -> Split:
        """Some of the images, by their numbers (M,) int64."""
        return Split(self.images[chosen], self.labels[chosen])

    def share(self, share: Share) -> Split:
        """The images that one of several processes works on: each image is in one share."""
        return self.part(torch.arange(len(self))[share.of(len(self))]) if share.count > 1 else self


@dataclass(frozen=True)
class Dataset:
    """A data set with its official training and test images."""

    spec: DatasetSpec
    classes: tuple[str, ...]
    train: Split
    test: Split

    def hold_out(self) -> tuple[Split, Split]:
        """Split the training images into (to train on, held out).

        A fixed tenth is held out, chosen by a seeded permutation: 5,000 of CIFAR's 50,000 images.
        """
        order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(len(self.train))
        count = round(len(self.train) * HELD_OUT_FRACTION)
        held_out, kept = (torch.from_numpy(np.sort(part)) for part in (order[:count], order[count:]))
        images, labels = self.train.images, self.train.labels
        return Split(images[kept], labels[kept]), Split(images[held_out], labels[held_out])

    def split(self, name: str) -> Split:
        """``"train"`` (all training images), ``"held-out"`` or ``"test"``.

        Raises:
            DataError: there is no such split.
        """
        if name not in SPLITS:
            raise DataError(f"split must be one of {', '.join(SPLITS)}, got {name!r}")
        if name == "held-out":
            return self.hold_out()[1]
        return self.train if name == "train" else self.test
