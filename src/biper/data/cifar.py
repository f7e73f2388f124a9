"""CIFAR-10 and CIFAR-100 in their official binary layout.

A file is a sequence of records; a record is the label bytes (one for CIFAR-10; coarse, then fine for CIFAR-100) and
3,072 pixel bytes: the red, green and blue planes of a 32x32 image, each row by row. Source: A. Krizhevsky,
"Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from biper.data.dataset import Dataset, Split
from biper.data.download import download_and_unpack
from biper.data.specs import SPECS
from biper.errors import DataError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Layout:
    title: str
    folder: str
    archive: str
    md5: str
    label_bytes: int
    train_files: tuple[str, ...]
    test_file: str
    records: dict[str, int]
    names_file: str


_CIFAR10_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_LAYOUTS = {
    "cifar10": _Layout(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        label_bytes=1,
        train_files=_CIFAR10_TRAIN,
        test_file="test_batch.bin",
        records=dict.fromkeys((*_CIFAR10_TRAIN, "test_batch.bin"), 10_000),
        names_file="batches.meta.txt",
    ),
    "cifar100": _Layout(
        title="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        label_bytes=2,
        train_files=("train.bin",),
        test_file="test.bin",
        records={"train.bin": 50_000, "test.bin": 10_000},
        names_file="fine_label_names.txt",
    ),
}
_URL = "https://www.cs.toronto.edu/~kriz/"


def load_cifar(name: str, data_dir: Path | None) -> Dataset:
    """Read ``"cifar10"`` or ``"cifar100"``, and download it once if it is not found.

    Args:
        name: which of the two.
        data_dir: the official folder itself, or a folder that holds it. If the files are not there, they are taken
            from the user's cache; if they are not there either, the archive is downloaded into the cache and checked
            against its published MD5.

    Raises:
        DataError: the data cannot be found or downloaded, or a file (which the message names) is missing, truncated or
            corrupt.
    """
    layout = _LAYOUTS[name]
    folder = _find(layout, data_dir)
    if folder is None:
        folder = download_and_unpack(layout.title, _URL + layout.archive, layout.md5) / layout.folder
    spec = SPECS[name]
    return Dataset(
        spec,
        _read_names(folder / layout.names_file, spec.num_classes),
        train=_read_files([folder / file for file in layout.train_files], layout, spec.num_classes),
        test=_read_files([folder / layout.test_file], layout, spec.num_classes),
    )


def _find(layout: _Layout, data_dir: Path | None) -> Path | None:
    if data_dir is None:
        return None
    if not data_dir.is_dir():
        raise DataError(f"no folder {data_dir}: data_dir=... expects a folder that holds {layout.folder}/")
    for folder in (data_dir / layout.folder, data_dir):
        if any((folder / file).exists() for file in layout.records):
            return folder
    return None


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    """Class names, one a line; numbers if the file of names is missing."""
    if not path.exists():
        return tuple(str(number) for number in range(count))
    names = tuple(path.read_text(encoding="utf-8").split())
    if len(names) != count:
        raise DataError(f"{path} is corrupt: expected {count} class names, got {len(names)}")
    return names


def _read_files(paths: list[Path], layout: _Layout, num_classes: int) -> Split:
    images, labels = [], []
    for path in paths:
        record_size = layout.label_bytes + _PIXELS
        expected = layout.records[path.name] * record_size
        if not path.exists():
            raise DataError(f"{path} is missing: {layout.title} expects {', '.join(layout.records)} in that folder")
        size = path.stat().st_size
        if size != expected:
            state = "truncated" if size < expected else "corrupt"
            raise DataError(f"{path} is {state}: expected {expected:,} bytes, got {size:,}")
        records = np.fromfile(path, np.uint8).reshape(-1, record_size)
        label = records[:, layout.label_bytes - 1]
        if label.max() >= num_classes:
            first = int(np.argmax(label >= num_classes))
            raise DataError(
                f"{path} is corrupt: record {first} has label {label[first]}, expected 0 to {num_classes - 1}"
            )
        planes = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32)
        images.append(torch.from_numpy(np.ascontiguousarray(planes.transpose(0, 2, 3, 1))))
        labels.append(torch.from_numpy(label.astype(np.int64)))
    return Split(torch.cat(images), torch.cat(labels))
