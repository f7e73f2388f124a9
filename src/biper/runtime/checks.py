"""Elementary checks of an untrusted document: each names the place and the problem when it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from biper.errors import ModelFormatError, printable

MAX_ELEMENTS = 1 << 26
"""The most elements of a value, 256 MiB in float32. A larger value is refused before memory is allocated for it."""

LONGEST_MESSAGE = 500
"""Longer messages are cut: they quote the file, which may hold anything."""


class Checker:
    """Checks the parts of a document; ``where`` names the part that is being checked, for the error message."""

    def __init__(self) -> None:
        self.where = "the model"

    def require(self, condition: bool, problem: str) -> None:
        """Raise ``ModelFormatError`` with ``where`` and the problem unless the condition holds."""
        if not condition:
            raise ModelFormatError(printable(f"{self.where} {problem}"[:LONGEST_MESSAGE]))

    def encodable(self, document: Any) -> None:
        """Require that every text of a document, keys too, can be written as UTF-8: JSON can hold half a character."""
        waiting = [document]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += [*value, *value.values()]
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str) and not value.isascii():
                self.require(not any("\ud800" <= letter <= "\udfff" for letter in value), "has text that is no Unicode")

    def mapping(self, value: Any, name: str) -> Mapping[str, Any]:
        """Return the value, which must be a JSON object."""
        self.require(isinstance(value, dict), f"has no {name}")
        checked: Mapping[str, Any] = value
        return checked

    def integers(self, value: Any, name: str, count: int, low: int, high: int) -> list[int]:
        """Return the value, which must be a list of ``count`` integers from ``low`` to ``high``."""
        valid = isinstance(value, list) and len(value) == count
        valid = valid and all(type(entry) is int and low <= entry <= high for entry in value)
        self.require(valid, f"has {name} {value!r}, expected {count} integers from {low} to {high}")
        checked: list[int] = value
        return checked

    def numbers(self, value: Any, name: str, count: int) -> tuple[float, ...]:
        """Return the value as floats; it must be a list of ``count`` numbers, each smaller than 1e30 in size."""
        valid = isinstance(value, list) and len(value) == count
        valid = valid and all(type(entry) in (int, float) and abs(entry) < 1e30 for entry in value)
        self.require(valid, f"has {name} {str(value)[:100]}, expected {count} finite numbers")
        return tuple(float(entry) for entry in value)

    def texts(self, value: Any, problem: str) -> list[str]:
        """Return the value, which must be a list of strings."""
        self.require(isinstance(value, list) and all(isinstance(entry, str) for entry in value), problem)
        checked: list[str] = value
        return checked

    def tensor(self, tensors: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Require that a tensor is present and has this shape and dtype."""
        array = tensors.get(name)
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        self.require(
            array is not None and array.shape == shape and array.dtype == dtype,
            f"has {name} {found}, expected {dtype} {shape}",
        )

    def size(self, shape: tuple[int, ...]) -> None:
        """Require that a value of this shape is neither empty nor larger than ``MAX_ELEMENTS``."""
        self.require(min(shape, default=1) >= 1 and math.prod(shape) <= MAX_ELEMENTS, f"makes a value of shape {shape}")
