"""Small files of signals for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def waves(count: int, classes: int = 3, channels: int = 2, length: int = 20, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Noisy sines whose frequency is their class: (N, C, L) float32 and (N,) int64."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    time = np.arange(length) / length
    phases = random.uniform(0, 2 * np.pi, (count, channels, 1))
    x = np.sin(2 * np.pi * (1 + 2 * labels[:, None, None]) * time + phases) + 0.1 * random.normal(size=phases.shape)
    return (3 + 5 * x).astype(np.float32), labels.astype(np.int64)


def write_npz(path: Path, count: int = 24, **more: object) -> Path:
    x, y = waves(count)
    x_test, y_test = waves(count // 2, seed=1)
    arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test} | more
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


HEADER = "# a comment\n@problemName small\n@timeStamps false\n@univariate false\n@classLabel true a b\n@data\n"


def ts_text(series: Sequence[tuple[Sequence[Sequence[float]], str]], header: str = HEADER) -> str:
    rows = (":".join([*(",".join(map(str, channel)) for channel in channels), name]) for channels, name in series)
    return header + "\n".join(rows) + "\n"
