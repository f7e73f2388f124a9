"""WebDataset shards: tar files whose members come in groups, ``KEY.jpg`` (or .jpeg, .png, .webp) and ``KEY.cls``.

``KEY.cls`` holds the label, a number as text; other members of a group are ignored. The worker processes read the
headers of all shards once, at the start; afterwards a picture is read from its position in its shard. Shuffling
permutes the shards and then moves each picture by less than the length of a buffer. So a few shards at a time are read
from front to back, and the order still depends on the seed and the epoch alone.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from biper.data.image_folder import MAX_PICTURE
from biper.data.names import Names
from biper.data.tar_headers import members
from biper.data.unreadable import UnreadableImages
from biper.data.workers import one_line_worker_errors, worker_loader
from biper.errors import DataError
from biper.io.toml import shortened

ENDINGS = ("jpg", "jpeg", "png", "webp")
SHUFFLE_BUFFER = 16_384
"""Shuffling moves a picture by less than this many positions in the sequence of all pictures of the permuted shards."""

MAX_SHARDS = 100_000
"""The most paths that a pattern with braces may stand for."""

MAX_BRACES = 20
"""The most braces of a pattern."""

_OPEN_SHARDS = 64
_LABEL_BYTES = 20


class TarImages:
    """The pictures of one split, ordered by shard and position; see `biper.data.stream.EncodedImages`.

    Args:
        shards: the tar files.
        classes: names of the classes, in the order of their labels; default the numbers up to the largest label.
        workers: number of processes that read the headers.
        unreadable: counts shards that are cut short, pictures without a label and labels without a picture.

    Raises:
        DataError: there is no picture at all, or too much cannot be read.
    """

    def __init__(
        self, shards: Sequence[Path], classes: Sequence[str] | None, *, workers: int, unreadable: UnreadableImages
    ) -> None:
        self.shards = tuple(shards)
        headers = _HeaderReader(self.shards)
        rows: list[tuple[int, int, int, int]] = []
        keys: list[str] = []
        with one_line_worker_errors():
            for number, header in enumerate(worker_loader(headers, range(len(headers)), workers)):
                for name, reason in header.unreadable:
                    unreadable.add(name, reason)
                for picture in header.pictures:
                    if classes is not None and picture.label >= len(classes):
                        name = f"{self.shards[number]}: {picture.key}"
                        unreadable.add(name, f"its label is {picture.label}, expected 0 to {len(classes) - 1}")
                    else:
                        rows.append((number, picture.offset, picture.size, picture.label))
                        keys.append(picture.key)
        if not rows:
            raise DataError(
                f"no picture with a label in {len(self.shards)} shards, the first is {self.shards[0]}: expected "
                f"members KEY.jpg ({', '.join(ENDINGS)}) and KEY.cls"
            )
        table = np.array(rows, np.int64)
        self._shard, self._offset, self._size, self.labels = (np.ascontiguousarray(column) for column in table.T)
        self._keys = Names(keys)
        self.classes = tuple(map(str, range(self.labels.max() + 1)) if classes is None else classes)
        self._open: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        return f"{self.shards[self._shard[number]]}: {self._keys[number]}"

    def read(self, number: int) -> bytes:
        size = int(self._size[number])
        blob = os.pread(self._opened(int(self._shard[number])), size, int(self._offset[number]))
        if len(blob) != size:
            raise OSError(f"the shard ends inside it: expected {size:,} bytes, got {len(blob):,}")
        return blob

    def shuffled(self, generator: torch.Generator) -> Tensor:
        turn = torch.empty(len(self.shards), dtype=torch.int64)
        turn[torch.randperm(len(self.shards), generator=generator)] = torch.arange(len(self.shards))
        row = turn[torch.from_numpy(self._shard)].argsort(stable=True)
        moved = torch.arange(len(self)) + SHUFFLE_BUFFER * torch.rand(
            len(self), generator=generator, dtype=torch.float64
        )
        return row[moved.argsort(stable=True)]

    def _opened(self, shard: int) -> int:
        """The file descriptor of a shard; when many are open, the one that was opened first is closed."""
        if shard not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[shard] = os.open(self.shards[shard], os.O_RDONLY | os.O_CLOEXEC)
            if hasattr(os, "posix_fadvise"):  # its other pictures are needed soon, and one long read is faster
                os.posix_fadvise(self._open[shard], 0, 0, os.POSIX_FADV_WILLNEED)
        return self._open[shard]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)


def expand_braces(pattern: str) -> list[str]:
    """All paths that a pattern with braces stands for, sorted: ``{000..127}`` is a range, ``{train,val}`` a list.

    Raises:
        DataError: a brace is not closed, the first number of a range is larger than the second, or the pattern stands
            for more than `MAX_SHARDS` paths.
    """
    shown = shortened(pattern)
    if pattern.count("{") > MAX_BRACES:
        raise DataError(f"{shown} has {pattern.count('{'):,} braces, expected at most {MAX_BRACES}")
    paths, found = [pattern], {pattern}
    while any("{" in path for path in found):
        paths, found = sorted(found), set()
        for path in paths:
            found |= set(_expanded_once(path))
            if len(found) > MAX_SHARDS:
                raise DataError(f"{shown} stands for more than {MAX_SHARDS:,} shards")
    return sorted(found)


def _expanded_once(pattern: str) -> list[str]:
    """The patterns without the innermost brace that begins last."""
    start = pattern.rfind("{")
    if start < 0:
        return [pattern]
    end = pattern.find("}", start)
    shown = shortened(pattern)
    if end < 0:
        raise DataError(f"the brace in {shown} is not closed: expected something like shard-{{000..127}}.tar")
    inner = pattern[start + 1 : end]
    options = inner.split(",")
    if counted := re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", inner):
        first, last = counted.groups()
        if int(last) - int(first) >= MAX_SHARDS:
            raise DataError(f"{shown} stands for more than {MAX_SHARDS:,} shards")
        options = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        if not options:
            raise DataError(f"the range {{{inner}}} in {shown} is empty: expected the smaller number first")
    return [pattern[:start] + option + pattern[end + 1 :] for option in options]


class _Picture(NamedTuple):
    key: str
    label: int
    offset: int
    size: int


class _Header(NamedTuple):
    """The content of a shard."""

    pictures: list[_Picture]
    unreadable: list[tuple[str, str]]


class _HeaderReader(TorchDataset[_Header]):
    """The data set of a worker process that reads the headers of shards."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: int) -> _Header:
        return _read_header(self.shards[number])


def _read_header(shard: Path) -> _Header:
    places: dict[str, tuple[int, int]] = {}
    labels: dict[str, bytes] = {}
    unreadable: list[tuple[str, str]] = []
    key = ""
    try:
        status = shard.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is a pipe, a device or a folder")
        with open(shard, "rb") as file, open(shard, "rb") as contents:
            for member in members(file):
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = folder + slash + stem
                if member.offset + member.size > status.st_size:
                    continue
                if ending.lower() in ENDINGS:
                    if member.size > MAX_PICTURE:
                        unreadable.append((f"{shard}: {member.name}", f"it has {member.size:,} bytes"))
                        continue
                    places[key] = member.offset, member.size
                elif ending.lower() == "cls":
                    contents.seek(member.offset)
                    labels[key] = contents.read(min(member.size, _LABEL_BYTES))
    except (tarfile.TarError, OSError, EOFError) as error:
        after = f" after {shortened(key)}" if key else ""
        unreadable.append((str(shard), f"truncated, corrupt, or no tar file{after} ({error}); the rest is left out"))
        if not (key in places and key in labels):  # the archive ends within this group, which is reported already
            places.pop(key, None)
            labels.pop(key, None)
    pictures = []
    for key in {**places, **labels}:
        if key not in places:
            unreadable.append((f"{shard}: {key}", f"there is no picture ({', '.join(ENDINGS)}) beside {key}.cls"))
        elif key not in labels:
            unreadable.append((f"{shard}: {key}", f"there is no {key}.cls beside it"))
        elif not re.fullmatch(rb"\s*\d{1,6}\s*", labels[key]):
            unreadable.append((f"{shard}: {key}", f"{key}.cls holds {labels[key]!r}, expected a class number"))
        else:
            pictures.append(_Picture(key, int(labels[key]), *places[key]))
    return _Header(pictures, unreadable)
