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
    """

    name: str
    family: str
    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoded: bool = False


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec("digits", "cifar", 10, 1, 8, (0.305,), (0.376,)),
        DatasetSpec("cifar10", "cifar", 10, 3, 32, _IMAGENET_MEAN, _IMAGENET_STD),
        DatasetSpec("cifar100", "cifar", 100, 3, 32, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
        DatasetSpec("tiny-imagenet", "cifar", 200, 3, 64, _IMAGENET_MEAN, _IMAGENET_STD),
        DatasetSpec("imagenet", "imagenet", 1000, 3, 224, _IMAGENET_MEAN, _IMAGENET_STD, decoded=True),
    )
}
"""Data sets by name. CIFAR-10 and CIFAR-100 are normalized as in the published code, CIFAR-10 as ImageNet."""


def dataset_spec(name: str) -> DatasetSpec:
    """Look up the facts about a data set by its name.

    Raises:
        DataError: no data set has that name; the nearest name is given.
    """
    if name not in SPECS:
        raise DataError(f"no data set {name!r}{did_you_mean(name, SPECS)}")
    return SPECS[name]
