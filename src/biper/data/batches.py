"""Normalized batches for training and for evaluation, from any split."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from biper.data.dataset import Images
from biper.data.mixing import cut_out_, mix_up
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
        classes: how many classes the labels have; default those of ``spec``.

    Raises:
        DataError: the split is smaller than one batch, or the settings ask for an augmentation that it does not have.
    """

    def __init__(
        self,
        split: Images,
        spec: DatasetSpec,
        settings: DataRecipe,
        *,
        seed: int,
        share: Share = ALL,
        classes: int | None = None,
    ) -> None:
        if len(split) < settings.batch_size:
            raise DataError(f"the batch size {settings.batch_size} is larger than the {len(split)} training images")
        if spec.decoded and settings.crop_padding:
            raise DataError(f"data.crop_padding is for images in memory; for {spec.name} set data.crop_scale")
        for key in ("cutout", "mixup"):
            if spec.decoded and getattr(settings, key):
                raise DataError(
                    f"data.{key} is for images in memory, and {spec.name} is decoded batch by batch: leave it out"
                )
        if not spec.pixels:
            for key in ("crop_padding", "flip", "cutout", "image_size", "crop_scale", "colour_jitter"):
                if getattr(settings, key):
                    raise DataError(f"data.{key} is for pictures, and the samples here are numbers: leave it out")
        if not spec.decoded:
            for key in ("image_size", "crop_scale", "colour_jitter"):
                if getattr(settings, key):
                    raise DataError(
                        f"data.{key} is for images that are decoded batch by batch (images, imagenet); {spec.name} is "
                        "in memory as it is, for data.crop_padding and data.flip"
                    )
        shorter = min(spec.shape(settings.image_size)[1:])
        if settings.cutout > shorter:
            raise DataError(
                f"data.cutout = {settings.cutout} is larger than the images, whose shorter side is {shorter} pixels"
            )
        self.split, self.spec, self.settings, self.seed, self.share = split, spec, settings, seed, share
        self.classes = classes or spec.num_classes
        self._normalize = Normalizer(spec.mean, spec.std)

    def __len__(self) -> int:
        """Number of batches, and of training steps, in an epoch."""
        return len(self.split) // self.settings.batch_size

    def epoch(self, stage: int, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from ``first_step`` on.

        Returns:
            Images (N, C, H, W) or signals (N, C, L), float32; and labels, (N,) int64, or with mixup the probability of
            each class, (N, classes) float32.
        """
        settings, key = self.settings, (self.seed, stage, epoch)
        # With mixup each process makes the whole batch, for the partners of its own images are anywhere in it.
        made = ALL if settings.mixup else self.share
        batches = self.split.training_batches(settings, key, first_step, made)
        for step, (pixels, labels) in enumerate(batches, first_step):
            images = self._normalize(pixels)
            cut_out_(images, settings.cutout, (*key, step), share=made, batch_size=settings.batch_size)
            if settings.mixup:
                images, labels = mix_up(images, labels, settings.mixup, self.classes, (*key, step), self.share)
            yield images, labels


def evaluation_batches(
    split: Images, mean: tuple[float, ...], std: tuple[float, ...], batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a split, in order and normalized: (N, C, H, W) or (N, C, L) float32, and (N,) int64 labels."""
    normalize = Normalizer(mean, std)
    for images, labels in split.in_order(batch_size):
        yield normalize(images), labels
