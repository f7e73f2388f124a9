"""Signals of your own: series of one or more channels, (C, L), from ``.npz`` or ``.ts`` files.

``data_dir`` is one of these:

- an ``.npz`` file of NumPy with the arrays ``x_train`` (N, C, L) and ``y_train`` (N,), and, if there are test signals,
  ``x_test`` and ``y_test``. ``x`` are real numbers, or (N, L) for one channel; ``y`` are integers from 0 on. An
  optional array ``classes`` of texts names the classes;
- a ``NAME_TRAIN.ts`` file, with ``NAME_TEST.ts`` beside it if there are test signals (`biper.data.ts_files`);
- ``FOLDER/NAME``, which stands for ``FOLDER/NAME_TRAIN.ts`` or ``FOLDER/NAME.npz``;
- a folder with one such set.

Every channel is normalized by its mean and standard deviation over the training signals, before padding. Signals of
several lengths are padded or resampled to one, see `biper.data.settings.DataRecipe`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biper.data.dataset import Dataset, Split
from biper.data.specs import SIGNALS, DatasetSpec
from biper.data.ts_files import Series, read_ts
from biper.errors import DataError

_ENDINGS = ("_TRAIN.ts", ".npz")


def load_signals(
    data_dir: Path | None,
    *,
    length: int | None = None,
    fit: str = "pad",
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Read signals into memory.

    Args:
        data_dir: where they are, in one of the forms that `biper.data.signals` describes.
        length: the number of samples to which all signals are brought; default that of the longest training signal.
        fit: how they are brought to it: ``"pad"`` or ``"resample"``.
        classes: names of the classes in the order of their labels, such as those of a trained model; default those of
            the files.

    Returns:
        The training and test signals as float32 (N, C, L), and a specification with the statistics of the former.

    Raises:
        DataError: there are no such files, or they are malformed, or do not belong together.
    """
    place = _find(data_dir)
    parts, names = _read_npz(place) if place.suffix == ".npz" else _read_ts_pair(place)
    if classes is not None and len(classes) != len(names):
        raise DataError(f"{place} has {len(names)} classes, expected {len(classes)}: {', '.join(classes)}")
    train = parts["train"]
    channels = len(train[0][0])
    for name, (values, _) in parts.items():
        if len(values[0]) != channels:
            raise DataError(
                f"{place}: the {name} signals have {len(values[0])} channels, the training signals {channels}"
            )
    whole = np.concatenate(train[0], axis=1, dtype=np.float64)
    mean, std = channel_statistics(whole)
    size = length or max(series.shape[1] for series in train[0])
    splits = {
        name: Split(
            torch.from_numpy(np.stack([_of_length(series, size, fit, mean) for series in values])),
            torch.from_numpy(labels),
        )
        for name, (values, labels) in parts.items()
    }
    spec = DatasetSpec(SIGNALS, "own", len(names), channels, size, mean, std, own_shape=(channels, size), pixels=False)
    return Dataset(spec, tuple(classes or names), train=splits["train"], test=splits.get("test"))


def channel_statistics(values: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the standard deviation of each row of (C, M) numbers; 1 for a deviation of 0, of a constant row."""
    mean, std = values.mean(1), values.std(1)
    std[std <= 1e-12 * np.abs(values).max(1, initial=1e-30)] = 1.0
    return tuple(map(float, mean)), tuple(map(float, std))


_Part = tuple[Sequence[NDArray[np.float32]], NDArray[np.int64]]


def _find(data_dir: Path | None) -> Path:
    """The ``.npz`` file, or the ``_TRAIN.ts`` file, that a path stands for."""
    expected = "expected FILE.npz, FOLDER/NAME of NAME_TRAIN.ts, or a folder with one of them"
    if data_dir is None:
        raise DataError(f"signals are in files of your own: give them with data_dir=...; {expected}")
    if data_dir.is_dir():
        found = sorted(path for ending in _ENDINGS for path in data_dir.glob(f"*{ending}"))
        if len(found) == 1:
            return found[0]
        names = ", ".join(path.name for path in found[:4])
        several = f"{len(found)} sets of signals ({names}): name one" if found else "no signals"
        raise DataError(f"{data_dir} holds {several}; data_dir=... {expected}")
    if data_dir.is_file():
        if data_dir.name.endswith("_TEST.ts"):
            return data_dir.with_name(data_dir.name.removesuffix("_TEST.ts") + "_TRAIN.ts")
        if data_dir.suffix in (".npz", ".ts"):
            return data_dir
        raise DataError(f"{data_dir} is no file of signals; data_dir=... {expected}")
    for ending in _ENDINGS:
        if (path := data_dir.with_name(data_dir.name + ending)).is_file():
            return path
    raise DataError(f"no file or folder {data_dir}; data_dir=... {expected}")


def _read_ts_pair(path: Path) -> tuple[dict[str, _Part], tuple[str, ...]]:
    files = {"train": path}
    if path.name.endswith("_TRAIN.ts"):
        files["test"] = path.with_name(path.name.removesuffix("_TRAIN.ts") + "_TEST.ts")
    read: dict[str, Series] = {name: read_ts(file) for name, file in files.items() if name == "train" or file.exists()}
    names = read["train"].classes
    if "test" in read and read["test"].classes != names:
        raise DataError(f"{files['test']} names the classes {', '.join(read['test'].classes)}, not {', '.join(names)}")
    return {name: (series.values, series.labels) for name, series in read.items()}, names


def _read_npz(path: Path) -> tuple[dict[str, _Part], tuple[str, ...]]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    wanted = ["x_train", "y_train", *(["x_test", "y_test"] if {"x_test", "y_test"} & set(arrays) else [])]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"{path} has no array {missing[0]}: expected x_train, y_train, and x_test, y_test if any")
    highest = max(
        (int(arrays[name].max()) for name in wanted if name[0] == "y" and _are_labels(arrays[name])), default=0
    )
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else tuple(map(str, range(highest + 1)))
    parts: dict[str, _Part] = {}
    for name in ("train", "test"):
        if f"x_{name}" in wanted:
            parts[name] = _checked(arrays[f"x_{name}"], arrays[f"y_{name}"], len(names), f"{name} of {path}")
    return parts, names


def _are_labels(labels: NDArray[np.generic]) -> bool:
    return labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and labels.size > 0


def _checked(x: NDArray[np.generic], y: NDArray[np.generic], classes: int, where: str) -> _Part:
    """The signals and labels of one split, if they are valid."""
    if x.ndim == 2:
        x = x[:, None]
    if x.ndim != 3 or not x.size or not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise DataError(f"x_{where}: expected numbers (N, C, L), or (N, L) for one channel, got {x.dtype} {x.shape}")
    if not _are_labels(y) or len(y) != len(x):
        raise DataError(f"y_{where}: expected {len(x)} integers, got {y.dtype} {y.shape}")
    labels, values = y.astype(np.int64), x.astype(np.float32)
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"y_{where}: expected labels from 0 to {classes - 1}, got {wrong}")
    finite = np.isfinite(values).all((1, 2))
    if not finite.all():
        raise DataError(f"x_{where}: signal {int(np.argmin(finite))} has values that are NaN or infinite")
    return list(values), labels


def _of_length(series: NDArray[np.float32], length: int, fit: str, mean: tuple[float, ...]) -> NDArray[np.float32]:
    """A series (C, L) brought to a length, by padding with the mean or cutting, or by resampling."""
    samples = series.shape[1]
    if samples == length:
        return series
    if fit == "resample":
        places = np.linspace(0, samples - 1, length)
        return np.stack([np.interp(places, np.arange(samples), row) for row in series]).astype(np.float32)
    if samples > length:
        return series[:, :length]
    filled = np.repeat(np.array(mean, np.float32)[:, None], length, axis=1)
    filled[:, :samples] = series
    return filled
