"""Data sets by name: `load_dataset` reads CIFAR-10 by ``load_dataset("cifar10", data_dir=...)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biper.data.dataset import Dataset
from biper.data.specs import SIGNALS, dataset_spec

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
    signal_length: int | None = None,
    signal_fit: str = "pad",
) -> Dataset:
    """Read a data set into memory; of images in files, find the files and decode them when needed.

    Args:
        name: ``"digits"`` (inside the package), ``"cifar10"``, ``"cifar100"``, ``"tiny-imagenet"``, ``"imagenet"``,
            ``"images"`` (your own, in class folders or tar shards), or ``"signals"`` (your own, in ``.npz`` or ``.ts``
            files).
        data_dir: the folder of the data. CIFAR files that are not there, or for which no folder is given, are taken
            from the user's cache, and downloaded into it once. `biper.data.imagenet` describes the folders of images,
            and `biper.data.signals` the files of signals.
        image_size: height and width to which pictures in files are resized, in pixels; default the size of the data
            set. Of signals it is the number of samples, like ``signal_length``.
        classes: names of the classes in the order of their labels, such as those of a trained model; default the
            sorted names of the class folders, or the names in the files of signals. Like ``image_size``, ``workers``
            and ``unreadable``, it has no effect on the digits and on CIFAR.
        workers: processes that decode; 0 decodes in this process; default one for each core but one.
        unreadable: counts pictures that cannot be read; default warns of each of them, and accepts 100.
        signal_length: the number of samples to which signals are brought; default that of the longest training signal.
        signal_fit: how signals of another length are brought to it: ``"pad"`` or ``"resample"``.

    Returns:
        The classes, and the training and test images as uint8 (N, H, W, C), or signals as float32 (N, C, L), with int64
        labels.

    Raises:
        DataError: the name is unknown, the data cannot be found or downloaded, a file is truncated or corrupt, or too
            many pictures cannot be read.
    """
    folder = None if data_dir is None else Path(data_dir)
    if name == SIGNALS:
        from biper.data.signals import load_signals

        return load_signals(folder, length=signal_length or image_size, fit=signal_fit, classes=classes)
    spec = dataset_spec(name)
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
