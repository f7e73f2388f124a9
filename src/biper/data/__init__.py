"""Data sets by name: `load_dataset` reads CIFAR-10 by ``load_dataset("cifar10", data_dir=...)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biper.data.dataset import Dataset
from biper.data.specs import dataset_spec

if TYPE_CHECKING:
    from biper.data.unreadable import UnreadableImages


def load_dataset(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    classes: Sequence[str] | None = None,
    workers: int | None = None,
    unreadable: UnreadableImages | None = None,
) -> Dataset:
    """Read a data set into memory; of ImageNet, which is too large, find the image files and decode them when needed.

    Args:
        name: ``"digits"`` (inside the package), ``"cifar10"``, ``"cifar100"``, ``"tiny-imagenet"``, or ``"imagenet"``,
            which also stands for any images of your own in class folders or tar shards.
        data_dir: the folder of the data. CIFAR files that are not there, or for which no folder is given, are taken
            from the user's cache, and downloaded into it once. `biper.data.imagenet` describes the folders of
            ``"imagenet"`` and ``"tiny-imagenet"``.
        image_size: height and width to which the pictures of ``"imagenet"`` and ``"tiny-imagenet"`` are resized, in
            pixels; default the size of the data set.
        classes: names of the classes in the order of their labels, such as those of a trained model; default the
            sorted names of the class folders. This and the following arguments are for ``"imagenet"`` and
            ``"tiny-imagenet"`` only.
        workers: processes that decode; 0 decodes in this process; default one for each core but one.
        unreadable: counts pictures that cannot be read; default warns of each of them, and accepts 100.

    Returns:
        The classes, and the training and test images as uint8 (N, H, W, C) with int64 labels.

    Raises:
        DataError: the name is unknown, the data cannot be found or downloaded, a file is truncated or corrupt, or too
            many pictures cannot be read.
    """
    spec = dataset_spec(name)
    folder = None if data_dir is None else Path(data_dir)
    if name == "digits":
        from biper.data.digits import load_digits

        return load_digits()
    if name in ("cifar10", "cifar100"):
        from biper.data.cifar import load_cifar

        return load_cifar(name, folder)
    from biper.data.imagenet import load_imagenet
    from biper.data.unreadable import UnreadableImages
    from biper.data.workers import default_workers

    return load_imagenet(
        spec,
        folder,
        image_size=image_size,
        classes=classes,
        workers=default_workers() if workers is None else workers,
        unreadable=UnreadableImages() if unreadable is None else unreadable,
    )
