"""Files in the ``.ts`` format of the UCR / UEA archive of time series, https://www.timeseriesclassification.com.

Lines that begin with ``#`` are comments. Lines that begin with ``@`` are the header; ``@classLabel true NAME NAME ...``
names the classes. After ``@data`` each line is a series: its channels are separated by ``:``, the samples of a channel
by ``,``, and the last field is the class. Series may differ in length; the channels of one series may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biper.errors import DataError
from biper.io.files import read_regular


@dataclass(frozen=True)
class Series:
    """Labelled series of any lengths.

    Attributes:
        values: one array for each series, (C, L) float32, with the same C.
        labels: (N,) int64.
        classes: the names of the classes, in the order of the labels.
    """

    values: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_ts(path: Path) -> Series:
    """Read a ``.ts`` file.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be read, has no class labels, or a line is malformed, has missing or non-finite
            values, another number of channels, or a class that the header does not name.
    """
    try:
        lines = read_regular(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    classes, first = _header(path, lines)
    label_of = {name: number for number, name in enumerate(classes)}
    values: list[NDArray[np.float32]] = []
    labels: list[int] = []
    for number, line in _data_lines(lines, first):
        *channels, label = line.split(":")
        where = f"line {number} of {path}"
        if label.strip() not in label_of:
            raise DataError(f"{where}: class {label.strip()[:40]!r} is none of {', '.join(classes)}")
        series = _series(channels, where)
        if values and len(series) != len(values[0]):
            raise DataError(f"{where}: expected {len(values[0])} channels as in the lines before, got {len(series)}")
        values.append(series)
        labels.append(label_of[label.strip()])
    if not values:
        raise DataError(f"{path} holds no series after @data")
    return Series(tuple(values), np.array(labels, np.int64), classes)


def _header(path: Path, lines: list[str]) -> tuple[tuple[str, ...], int]:
    """The names of the classes, and the number of lines up to ``@data``."""
    classes: tuple[str, ...] = ()
    for number, line in enumerate(lines, 1):
        key, *words = line.split() or [""]
        match key.lower():
            case "@classlabel":
                classes = tuple(words[1:]) if words[:1] and words[0].lower() == "true" else ()
            case "@timestamps" if words[:1] and words[0].lower() == "true":
                raise DataError(f"{path} has time stamps (@timeStamps true): expected samples at equal distances")
            case "@data":
                if not classes:
                    raise DataError(f"{path} names no classes: expected a line '@classLabel true NAME NAME ...'")
                if len(set(classes)) < len(classes):
                    raise DataError(f"{path} names a class twice in @classLabel: {', '.join(classes)}")
                return classes, number
    raise DataError(f"{path} is no .ts file: it has no line @data")


def _data_lines(lines: list[str], first: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip() and not line.startswith("#"):
            yield number, line


def _series(channels: list[str], where: str) -> NDArray[np.float32]:
    """The channels of one line, (C, L) float32."""
    try:
        rows = [np.array([float(sample) for sample in channel.split(",")]) for channel in channels]
    except ValueError:
        bad = next(sample for channel in channels for sample in channel.split(",") if not _is_number(sample))
        missing = ", which stands for a missing value: fill it in" if bad.strip() == "?" else ""
        raise DataError(f"{where}: expected numbers, got {bad.strip()[:40]!r}{missing}") from None
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        found = "no channel" if not rows else f"channels of {' and '.join(map(str, sorted(lengths)))} samples"
        raise DataError(f"{where}: expected channels of one length, got {found}")
    with np.errstate(over="ignore"):
        series = np.stack(rows).astype(np.float32)
    if not np.isfinite(series).all():
        raise DataError(f"{where}: expected finite numbers, got NaN, infinity or a number beyond float32")
    return series


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
