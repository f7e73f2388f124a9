"""Normalized batches for training and for evaluation, from any split."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from biper.data.dataset import Images
from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.specs import DatasetSpec
from biper.data.transforms import Normalizer
from biper.errors import DataError


class TrainingBatches:
    """Shuffled, augmented and normalized batches of a split, or the share of one process in each of them.

    Every random choice is a function of (seed, stage, epoch) and of the step or the image. Therefore resuming needs no
    saved state, and the batches do not depend on the device or on the number of processes. Each epoch leaves out the
    images of an incomplete last batch, which are others in each epoch.

    Args:
        split: the training images.
        spec: facts about the data set, among them the mean and standard deviation that normalize.
        settings: the batch size and the augmentation.
        seed: the seed of the run.
        share: the part of each batch that this process works on.

    Raises:
        DataError: the split is smaller than one batch, or the settings ask for an augmentation that it does not have.
    """

    def __init__(
        self, split: Images, spec: DatasetSpec, settings: DataRecipe, *, seed: int, share: Share = ALL
    ) -> None:
        if len(split) < settings.batch_size:
            raise DataError(f"the batch size {settings.batch_size} is larger than the {len(split)} training images")
        if spec.decoded and settings.crop_padding:
            raise DataError(f"data.crop_padding is for images in memory; for {spec.name} set data.crop_scale")
        if not spec.pixels:
            for key in ("crop_padding", "flip", "image_size", "crop_scale", "colour_jitter"):
                if getattr(settings, key):
                    raise DataError(f"data.{key} is for pictures, and the samples here are numbers: leave it out")
        if not spec.decoded:
            for key in ("image_size", "crop_scale", "colour_jitter"):
                if getattr(settings, key):
                    raise DataError(
                        f"data.{key} is for images that are decoded batch by batch (images, imagenet); {spec.name} is "
                        "in memory as it is, for data.crop_padding and data.flip"
                    )
        self.split, self.spec, self.settings, self.seed, self.share = split, spec, settings, seed, share
        self._normalize = Normalizer(spec.mean, spec.std)

    def __len__(self) -> int:
        """Number of batches, and of training steps, in an epoch."""
        return len(self.split) // self.settings.batch_size

    def epoch(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from ``first_step`` on: (N, C, H, W) or (N, C, L) float32, and (N,) int64 labels."""
        key = self.seed, stage, epoch
        for images, labels in self.split.training_batches(self.settings, key, first_step, self.share):
            yield self._normalize(images), labels


def evaluation_batches(
    split: Images, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a split, in order and normalized: (N, C, H, W) or (N, C, L) float32, and (N,) int64 labels."""
    normalize = Normalizer(mean, std)
    for images, labels in split.in_order(batch_size):
        yield normalize(images), labels
