"""Many names in little memory."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np


class Names:
    """A list of names as one text of bytes: a list of a million strings would be copied into each worker process as it
    counts references, and an array would give each the length of the longest.

    Args:
        names: the names, of any length.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        return os.fsdecode(self._text[self._ends[number] : self._ends[number + 1]])
