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

from biper.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Endings of the file names of pictures, in small or capital letters; other files are ignored."""

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
        # one array: a list of a million strings would be copied into each worker process as it counts references
        self._paths = np.array([os.fsencode(path) for path, _ in found])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        return str(self.root / os.fsdecode(self._paths[number]))

    def read(self, number: int) -> bytes:
        with open(self.name(number), "rb") as file:
            return file.read()

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
    found: list[tuple[str, str]] = []
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        before = len(found)
        for parent, below, files in os.walk(root / folder, followlinks=True):
            below.sort()
            place = os.path.relpath(parent, root)
            pictures = sorted(file for file in files if file.lower().endswith(ENDINGS) and not file.startswith("."))
            found += ((os.path.join(place, file), folder) for file in pictures)
        if len(found) == before:
            raise DataError(
                f"{root / folder} holds no picture ({', '.join(ENDINGS)}): each folder in {root} is a class; fill it "
                "or remove it"
            )
    if not folders:
        raise DataError(f"{root} holds no class folders: expected a folder of pictures for each class, named after it")
    return found


def _annotated(root: Path) -> list[tuple[str, str]]:
    """(path below the root, class) of each picture that Tiny ImageNet's annotations name."""
    path = root / _ANNOTATIONS
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short is not None or not rows:
        raise DataError(f"{path} is corrupt: line {short or 1} should be a file, a tab, a class")
    return [(f"images/{row[0]}", row[1]) for row in rows]
