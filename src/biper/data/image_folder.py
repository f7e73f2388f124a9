"""Image folders: a folder for each class, named after it, with the class's pictures at any depth below.

A validation folder may also have the form of Tiny ImageNet: all pictures in ``images/``, and ``val_annotations.txt``
with the class of each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biper.data.names import Names
from biper.errors import DataError
from biper.io.files import read_regular
from biper.io.toml import shortened

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Endings of the file names of pictures, in small or capital letters; other files are ignored."""

MAX_PICTURE = 1 << 28
"""The largest file of a picture, in bytes."""

MAX_ANNOTATIONS = 1 << 28

_ANNOTATIONS = "val_annotations.txt"


class FolderImages:
    """The pictures of one split, ordered by class and name; see `biper.data.stream.EncodedImages`.

    Args:
        root: the folder that holds the class folders.
        classes: names of the classes, in the order of their labels. The default is the sorted names of the folders;
            so it is too if ``classes`` are the numbers from 0 on, as many as there are folders.

    Raises:
        DataError: there is no class folder, or one of them holds no picture or has the name of no class.
    """

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        self.root = root
        found = _annotated(root) if (root / _ANNOTATIONS).is_file() else _in_class_folders(root)
        names = sorted({name for _, name in found})
        numbers = [str(place) for place in range(len(names))]
        self.classes = tuple(names if classes is None or list(classes) == numbers else classes)
        label = _labels(names, self.classes, root)
        self.labels = np.array([label[name] for _, name in found], np.int64)
        self._paths = Names(path for path, _ in found)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        return str(self.root / self._paths[number])

    def read(self, number: int) -> bytes:
        return read_regular(self.name(number), MAX_PICTURE)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)


def _labels(names: Sequence[str], classes: Sequence[str], root: Path) -> dict[str, int]:
    """The label of each folder: the position of its name among the classes."""
    places = {name: place for place, name in enumerate(classes)}
    strange = [name for name in names if name not in places]
    if strange:
        raise DataError(
            f"{root / strange[0]} is none of the {len(classes)} classes ({', '.join(classes[:3])}, ...): expected a "
            "folder for each of them, of that name, or as many folders as there are where they are numbers"
        )
    return places


def _in_class_folders(root: Path) -> list[tuple[str, str]]:
    """(path below the root, class) of each picture."""
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    places = {_identity(root): root.name}
    for folder in folders:
        other = places.setdefault(_identity(root / folder), folder)
        if other != folder:
            raise DataError(f"{root / folder} and {other} are one folder, whose pictures would have two classes")
    listed = [(path, folder) for folder in folders for path in _pictures_below(root, folder, set(places))]
    found = _each_once(root, listed)
    filled = {folder for _, folder in found}
    for folder in folders:
        if folder not in filled:
            raise DataError(
                f"{root / folder} holds no picture ({', '.join(ENDINGS)}): each folder in {root} is a class; fill it "
                "or remove it"
            )
    if not folders:
        raise DataError(f"{root} holds no class folders: expected a folder of pictures for each class, named after it")
    return found


def _identity(path: Path | str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _pictures_below(root: Path, folder: str, seen: set[tuple[int, int]]) -> list[str]:
    """The paths below the root of the pictures in a class folder, in order; a folder that was seen is passed over."""
    paths: list[str] = []
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        files, below = [], []
        with os.scandir(root / place) as entries:
            for entry in entries:
                if entry.is_dir():
                    below.append(entry)
                elif entry.is_file() and entry.name.lower().endswith(ENDINGS) and not entry.name.startswith("."):
                    files.append(entry.name)
        paths += (os.path.join(place, name) for name in sorted(files))
        for inner in sorted(below, key=lambda entry: entry.name, reverse=True):
            identity = _identity(inner.path)
            if identity not in seen:  # else a link to a folder above, or to one that was read already
                seen.add(identity)
                waiting.append(os.path.join(place, inner.name))
    return paths


def _each_once(root: Path, listed: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pictures without links to pictures that are there already."""
    links = {path for path, _ in listed if os.path.islink(root / path)}
    if not links:
        return listed
    seen = {_identity(root / path) for path, _ in listed if path not in links}
    once = []
    for path, folder in listed:
        if path in links:
            identity = _identity(root / path)
            if identity in seen:
                continue
            seen.add(identity)
        once.append((path, folder))
    return once


def _annotated(root: Path) -> list[tuple[str, str]]:
    """(path below the root, class) of each picture that Tiny ImageNet's annotations name."""
    path = root / _ANNOTATIONS
    try:
        rows = [line.split("\t") for line in read_regular(path, MAX_ANNOTATIONS).decode().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None or not rows:
        raise DataError(f"{path} is corrupt: line {short or 1} should be a file, a tab, a class")
    outside = next((row[0] for row in rows if "/" in row[0] or "\0" in row[0] or row[0] in ("", ".", "..")), None)
    if outside is not None:
        raise DataError(f"{path} names {shortened(outside)}, expected the name of a file in {root / 'images'}")
    return [(f"images/{row[0]}", row[1]) for row in rows]
