"""Batches of training and evaluation images from a split in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from biper.data.augment import normalize, random_crop_and_flip
from biper.data.dataset import Split
from biper.data.share import ALL, Share
from biper.data.specs import DatasetSpec
from biper.errors import DataError


def seeded_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream depends on the key alone, so that any batch of a run can be made again."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


class TrainingBatches:
    """Shuffled, augmented, normalized batches of a split, or a process's share of each.

    Every random choice is a function of (seed, stage, epoch, step): resuming needs no state, and the batches do
    not depend on the device or the number of processes. Each epoch leaves out a different remainder of less than a
    batch.

    Raises:
        DataError: the split is smaller than one batch.
    """

    def __init__(
        self,
        split: Split,
        spec: DatasetSpec,
        *,
        batch_size: int,
        crop_padding: int,
        flip: bool,
        seed: int,
        share: Share = ALL,
    ) -> None:
        if len(split) < batch_size:
            raise DataError(f"the batch size {batch_size} is larger than the {len(split)} training images")
        self.split, self.spec = split, spec
        self.batch_size, self.crop_padding, self.flip, self.seed = batch_size, crop_padding, flip, seed
        self.share = share

    def __len__(self) -> int:
        """Batches (steps) in an epoch."""
        return len(self.split) // self.batch_size

    def epoch(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``first_step`` to the last of an epoch: (N, C, H, W) float32 channels-last, and (N,) int64."""
        order = torch.randperm(len(self.split), generator=seeded_generator(self.seed, stage, epoch))
        order = order.to(self.split.labels.device)
        for step in range(first_step, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size][self.share.of(self.batch_size)]
            generator = seeded_generator(self.seed, stage, epoch, step)
            images = random_crop_and_flip(
                self.split.images[chosen],
                self.crop_padding,
                self.flip,
                generator,
                share=self.share,
                batch_size=self.batch_size,
            )
            yield normalize(images, self.spec.mean, self.spec.std), self.split.labels[chosen]


def evaluation_batches(
    split: Split, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int = 500
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a split in order, normalized: (N, C, H, W) float32 channels-last, and (N,) int64."""
    for start in range(0, len(split), batch_size):
        stop = start + batch_size
        yield normalize(split.images[start:stop], mean, std), split.labels[start:stop]
