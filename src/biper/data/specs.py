"""Facts about the data sets that biper knows, which models and recipes need before any file is read."""

from __future__ import annotations

from dataclasses import dataclass

from biper.errors import DataError, did_you_mean


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without reading it.

    Attributes:
        name: the name that `biper.load_dataset` takes.
        family: which form of a network fits: ``"cifar"`` for small images, whose networks keep the full resolution in
            the stem, or ``"imagenet"`` for large ones, whose networks reduce it in the stem.
        num_classes: number of classes.
        channels: channels of an image, 1 or 3.
        image_size: height and width of the images, in pixels; where ``decoded`` is true, the usual size.
        mean: of the pixels of each channel, scaled to [0, 1]; it normalizes the images.
        std: the standard deviation of the same.
        decoded: whether images stay files, which are decoded batch by batch in any size; else they are in memory.
        own_shape: the shape of one sample of your own data as the network takes it, (C, H, W), or (C, L) for signals;
            empty for the data sets of `SPECS`.
        pixels: whether the samples are pictures, which training may crop and mirror.
    """

    name: str
    family: str
    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoded: bool = False
    own_shape: tuple[int, ...] = ()
    pixels: bool = True

    def shape(self, image_size: int | None = None) -> tuple[int, ...]:
        """The shape of one sample as the network takes it, (C, H, W), or (C, L) for signals.

        Args:
            image_size: height and width to which images are resized, in pixels; default the size of the data set.
        """
        size = image_size or self.image_size
        return self.own_shape or (self.channels, size, size)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec("digits", "cifar", 10, 1, 8, (0.305,), (0.376,)),
        DatasetSpec("cifar10", "cifar", 10, 3, 32, _IMAGENET_MEAN, _IMAGENET_STD),
        DatasetSpec("cifar100", "cifar", 100, 3, 32, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
        DatasetSpec("tiny-imagenet", "cifar", 200, 3, 64, _IMAGENET_MEAN, _IMAGENET_STD),
        DatasetSpec("imagenet", "imagenet", 1000, 3, 224, _IMAGENET_MEAN, _IMAGENET_STD, decoded=True),
        DatasetSpec("images", "imagenet", 1000, 3, 224, _IMAGENET_MEAN, _IMAGENET_STD, decoded=True),
    )
}
"""Data sets by name. CIFAR-10 and CIFAR-100 are normalized as in the published code, CIFAR-10 as ImageNet. ``images``
are folders of your own: their number of classes is that of the folders, and their size is that of the recipe."""

SIGNALS = "signals"
"""The name of files of your own signals, which have no entry above: their facts are read from the files."""

GIVEN = "given"
"""The name of data that were given to `biper.fit` as objects, and that only the same program can give again."""


def dataset_spec(name: str) -> DatasetSpec:
    """Look up the facts about a data set by its name.

    Raises:
        DataError: no data set has that name; the nearest name is given.
    """
    if name == SIGNALS:
        raise DataError("the shape and the classes of signals are not known before their files are read")
    if name == GIVEN:
        raise DataError(
            "the data of this model were given to biper.fit as objects, so that nothing can read them again: give them "
            "to biper.evaluate, or name others with dataset=..."
        )
    if name not in SPECS:
        raise DataError(f"no data set {name!r}{did_you_mean(name, [*SPECS, SIGNALS])}")
    return SPECS[name]
