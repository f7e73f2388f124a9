"""ImageNet, Tiny ImageNet, and any images of your own that are stored in the same ways.

The folder has one of these forms:

- ``train/`` and ``val/`` (or ``validation/``; of the data set ``images`` also ``test/``), each with a folder of
  pictures for each class, or with tar shards;
- class folders alone, or tar shards alone: they are the training images;
- tar shards of both splits, which ``train`` and ``val`` in their names tell apart.

A path with braces names shards: ``/data/{train-{000..127},val-{00..07}}.tar``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from biper.data.dataset import Dataset, Images
from biper.data.image_folder import FolderImages
from biper.data.specs import DatasetSpec, dataset_spec
from biper.data.stream import StreamedImages
from biper.data.tar_shards import TarImages, expand_braces
from biper.data.transforms import evaluation_crop
from biper.data.unreadable import UnreadableImages
from biper.data.workers import default_workers
from biper.errors import DataError
from biper.io.files import read_regular

LONGEST_PATH = 4_096
"""The longest path, in characters."""

CLASS_NAMES_FILE = "classes.txt"
"""A file in the folder of tar shards, or the folder above: the names of the labels 0, 1 and so on, one a line."""

_FOLDERS = {"train": ("train",), "test": ("val", "validation")}
_OWN_FOLDERS = {"train": ("train",), "test": ("val", "validation", "test")}
_VALIDATION = re.compile(r"(?<![a-z])(val|valid|validation)(?![a-z])")


def load_imagenet(
    spec: DatasetSpec,
    data_dir: Path | None,
    *,
    image_size: int | None,
    classes: Sequence[str] | None,
    workers: int,
    unreadable: UnreadableImages,
) -> Dataset:
    """Find the images of a data set; those of Tiny ImageNet are read into memory at once.

    Args:
        spec: ``imagenet``, ``images`` or ``tiny-imagenet``.
        data_dir: the folder, in one of the forms that `biper.data.imagenet` describes.
        image_size: height and width to which images are resized, in pixels; default the size of the data set.
        classes: names of the classes, in the order of their labels; default the sorted names of the class
            folders.
        workers: number of processes that decode.
        unreadable: counts what cannot be read.

    Raises:
        DataError: the folder does not exist or holds no images, a class folder holds no images or has the name of no
            class, or too many images cannot be read.
    """
    if data_dir is None:
        raise DataError(f"biper does not download {spec.name}: give its folder with data_dir=...")
    splits: dict[str, Images] = {}
    for name, place in _find(data_dir, _OWN_FOLDERS if spec.name == "images" else _FOLDERS).items():
        source: FolderImages | TarImages
        if isinstance(place, Path):
            source = FolderImages(place, classes)
        else:
            names = _class_names(place[0]) if classes is None else classes
            source = TarImages(place, names, workers=workers, unreadable=unreadable)
        classes = source.classes  # those of the training images, also for the test images
        streamed = StreamedImages(
            source,
            size=image_size or spec.image_size,
            workers=workers,
            unreadable=unreadable,
            evaluation_crop=evaluation_crop(spec),
        )
        splits[name] = streamed if spec.decoded else streamed.in_memory()
    return Dataset(spec, tuple(classes or ()), train=splits.get("train"), test=splits.get("test"))


def load_folders(
    train: Path,
    test: Path | str | None,
    *,
    image_size: int | None,
    classes: Sequence[str] | None,
    workers: int | None,
    unreadable: UnreadableImages,
) -> Dataset:
    """Find the images of one or two folders of the user's own.

    Args:
        train: a folder in one of the forms that `biper.data.imagenet` describes.
        test: a folder with class folders, or None: then ``train`` may hold both splits.
        image_size, classes, workers, unreadable: see `biper.load_dataset`.

    Raises:
        DataError: see `load_imagenet`.
    """
    for name, folder in (("train", train), ("test", test)):
        if isinstance(folder, str | Path) and not Path(folder).is_dir():
            raise DataError(f"no folder {folder}: {name}=... expects class folders of pictures")
    workers = default_workers() if workers is None else workers
    spec = dataset_spec("images")
    found = load_imagenet(spec, train, image_size=image_size, classes=classes, workers=workers, unreadable=unreadable)
    if test is None:
        return found
    if not isinstance(test, str | Path):
        raise DataError(f"test=... is a {type(test).__name__}, expected a folder as train=... is one")
    second = load_imagenet(
        spec, Path(test), image_size=image_size, classes=found.classes, workers=workers, unreadable=unreadable
    )
    if second.test is not None and second.train is not None:
        raise DataError(f"{test} holds training and test images: expected class folders of test images")
    return Dataset(spec, found.classes, train=found.train, test=second.test or second.train)


def _find(data_dir: Path, folders: Mapping[str, tuple[str, ...]]) -> dict[str, Path | list[Path]]:
    """The place of each split: a folder of class folders, or a list of shards. The training images come first."""
    if len(str(data_dir)) > LONGEST_PATH:
        raise DataError(f"data_dir=... is no path: it has {len(str(data_dir)):,} characters")
    if data_dir.suffix == ".tar" or ("{" in str(data_dir) and not data_dir.exists()):
        shards = [Path(path) for path in expand_braces(str(data_dir))]
        missing = [path for path in shards if not _is_file(path)]
        if missing:
            raise DataError(f"{len(missing)} of {len(shards)} shards are missing, the first is {missing[0]}")
        return _split_shards(shards)
    if not data_dir.is_dir():
        raise DataError(f"no folder {data_dir}: data_dir=... expects one that holds train/ and val/, or class folders")
    below: dict[str, Path | list[Path]] = {}
    for name, options in folders.items():
        folder = next((data_dir / option for option in options if (data_dir / option).is_dir()), None)
        if folder is not None:
            below[name] = sorted(folder.glob("*.tar")) or folder
    if below:
        return below
    shards = sorted(data_dir.glob("*.tar"))
    return _split_shards(shards) if shards else {"train": data_dir}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that the system cannot have
        return False


def _split_shards(shards: list[Path]) -> dict[str, Path | list[Path]]:
    """The shards of each split, told apart by their own name, else by the name of their folder."""

    def is_validation(path: Path) -> bool:
        for name in (path.name.lower(), path.parent.name.lower()):
            if "train" in name or _VALIDATION.search(name):
                return "train" not in name
        return False

    parts: dict[str, Path | list[Path]] = {
        "train": [path for path in shards if not is_validation(path)],
        "test": [path for path in shards if is_validation(path)],
    }
    return {name: part for name, part in parts.items() if part}


def _class_names(shard: Path) -> list[str] | None:
    """The class names in the folder of a shard, or in the folder above; None if there is no such file."""
    for folder in (shard.parent, shard.parent.parent):
        if (folder / CLASS_NAMES_FILE).is_file():
            try:
                return read_regular(folder / CLASS_NAMES_FILE, 1 << 26).decode().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DataError(f"cannot read {folder / CLASS_NAMES_FILE}: {reason}") from error
    return None
