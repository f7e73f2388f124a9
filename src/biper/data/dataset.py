"""A data set and its splits: the interface that training and evaluation use, and a split in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from biper.data.on_device import batches_on_device
from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.specs import DatasetSpec
from biper.data.transforms import random_crop_and_flip, seeded_generator
from biper.errors import DataError

HELD_OUT_SEED = 20240612
"""Seed of the choice of held-out images, which are the same in every run, whatever the seed of the run."""

HELD_OUT_FRACTION = 0.1
"""The share of the training images that is held out: 5,000 of the 50,000 images of CIFAR."""

SPLITS = ("train", "held-out", "test")


Batch = tuple[Tensor, Tensor]
"""Images and labels (N,) int64, on one device. Images are pixels (N, H, W, C) uint8; or floating-point numbers, which
are (N, C, H, W), or (N, C, L) for signals."""


class Images(ABC):
    """Labelled images or signals of one size, in memory or in files: the interface of training and evaluation."""

    evaluation_batch = 500
    """Number of images in a batch of evaluation."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same images, with batches on another device."""

    @abstractmethod
    def part(self, chosen: Tensor) -> Self:
        """The images with the given indices, (M,) int64."""

    def share(self, share: Share) -> Self:
        """The images that one of several processes works on; each image is in exactly one share."""
        return self if share.count == 1 else self.part(torch.arange(len(self))[share.of(len(self))])

    @abstractmethod
    def training_batches(
        self, settings: DataRecipe, key: tuple[int, int, int], first_step: int = 0, share: Share = ALL
    ) -> Iterator[Batch]:
        """The shuffled and augmented batches of an epoch; they depend on nothing but the arguments.

        An incomplete last batch is left out.

        Args:
            settings: the batch size and the augmentation.
            key: seed, stage and epoch, which determine every random choice.
            first_step: number of batches to skip at the beginning.
            share: the part of each batch to return, with the same images and augmentation as in the whole batch.
        """

    @abstractmethod
    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Every image once, in order, without augmentation; ``batch_size`` is ``evaluation_batch`` by default."""

    def first(self, count: int) -> Tensor:
        """The first images of `in_order`, or all if there are fewer; see `Batch`."""
        return next(self.in_order(count))[0]


@dataclass(frozen=True)
class Split(Images):
    """Images or signals and their labels, in memory, on one device; see `Batch` for shapes and dtypes."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        ranks = {torch.uint8: (4,), torch.float32: (3, 4)}.get(self.images.dtype, ())
        if self.images.dim() not in ranks or len(self.images) != len(self.labels):
            raise DataError(
                "a split expects uint8 images (N, H, W, C), float32 images (N, C, H, W) or float32 signals (N, C, L), "
                f"and N labels, got {self.images.dtype} {tuple(self.images.shape)} and {len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def part(self, chosen: Tensor) -> Split:
        return Split(self.images[chosen], self.labels[chosen])

    def training_batches(
        self, settings: DataRecipe, key: tuple[int, int, int], first_step: int = 0, share: Share = ALL
    ) -> Iterator[Batch]:
        order = torch.randperm(len(self), generator=seeded_generator(*key))
        if self.labels.device.type != "cpu":
            yield from batches_on_device(self.images, self.labels, order, settings, key, first_step, share)
            return
        size = settings.batch_size
        for step in range(first_step, len(self) // size):
            chosen = order[step * size : (step + 1) * size][share.of(size)]
            images = self.images.index_select(0, chosen)
            if images.dtype == torch.uint8:
                generator = seeded_generator(*key, step)
                images = random_crop_and_flip(
                    images, settings.crop_padding, settings.flip, generator, share=share, batch_size=size
                )
            yield images, self.labels[chosen]

    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        size = batch_size or self.evaluation_batch
        yield from zip(torch.split(self.images, size), torch.split(self.labels, size), strict=True)


@dataclass(frozen=True)
class Dataset:
    """A data set: its official training and test images, either of which is None if a folder has only the other."""

    spec: DatasetSpec
    classes: tuple[str, ...]
    train: Images | None
    test: Images | None

    def hold_out(self) -> tuple[Images, Images]:
        """Split the training images into (images to train on, held-out images).

        A fixed tenth is held out, chosen by a seeded permutation: 5,000 of CIFAR's 50,000 images.

        Raises:
            DataError: there are no training images, or too few of them.
        """
        train = self.split("train")
        order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(len(train))
        count = round(len(train) * HELD_OUT_FRACTION)
        if count == 0:
            raise DataError(f"{len(train)} training images are too few to hold out a tenth: expected at least 6")
        held_out, kept = (torch.from_numpy(np.sort(part)) for part in (order[:count], order[count:]))
        return train.part(kept), train.part(held_out)

    def split(self, name: str) -> Images:
        """The images of a split: ``"train"`` (all training images), ``"held-out"`` or ``"test"``.

        Raises:
            DataError: there is no such split.
        """
        require_split(name)
        if name == "held-out":
            return self.hold_out()[1]
        found = self.train if name == "train" else self.test
        if found is None:
            raise DataError(
                f"these {self.spec.name} files have no {name} images: expected train/ and val/ in one folder"
            )
        return found


def require_split(name: str) -> None:
    """Check the name of a split.

    Raises:
        DataError: there is no such split.
    """
    if name not in SPLITS:
        raise DataError(f"split must be one of {', '.join(SPLITS)}, got {name!r}")
