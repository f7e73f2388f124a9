"""Data sets by name: `load_dataset("cifar10", data_dir=...)`."""

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
    """Read a data set into memory, or find its images where they are too many for that.

    Args:
        name: ``"digits"`` (inside the package), ``"cifar10"``, ``"cifar100"``, ``"tiny-imagenet"``, or ``"imagenet"``,
            which stands for any images of your own in class folders or tar shards too.
        data_dir: where the CIFAR files are; without it, or if they are not there, they are looked for in the
            user's cache and downloaded into it once. For the last two: see `biper.data.imagenet`.
        image_size: height and width that ImageNet's pictures are brought to, in pixels; default the data set's.
        classes: (this and the rest: for the last two alone) names of the classes in the order of their labels, such as
            a trained model's; default the class folders', sorted.
        workers: processes that decode; 0 decodes in this one; default a core each, one left free.
        unreadable: counts pictures that cannot be read; default warns of each, and accepts 100.

    Raises:
        DataError: unknown name, data that is nowhere and cannot be downloaded, a truncated or corrupt file, or too many
            unreadable pictures.
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
