"""Facts about the data sets that biper knows: what a model or a recipe needs before any file is read."""

from __future__ import annotations

from dataclasses import dataclass

from biper.errors import DataError, did_you_mean


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without reading it.

    ``mean`` and ``std`` normalize pixels scaled to [0, 1], one number a channel. ``family`` says which form of
    a network fits: ``"cifar"`` for small images, whose networks keep the full resolution in the stem, or
    ``"imagenet"`` for large ones, whose networks begin by reducing it. Where ``decoded`` is true, images are kept
    as files and decoded batch by batch, in any size; ``image_size`` is then the usual one. Else they are in memory.
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
"""By name. The CIFAR sets are normalized as in the published code: CIFAR-10 with ImageNet's figures."""


def dataset_spec(name: str) -> DatasetSpec:
    """Look a data set up by name.

    Raises:
        DataError: no data set has that name; the nearest one is named.
    """
    if name not in SPECS:
        raise DataError(f"no data set {name!r}{did_you_mean(name, SPECS)}")
    return SPECS[name]
