"""Checks of what a caller gives to a packed model: numbers and arrays."""

from __future__ import annotations

import operator
import os
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from biper.errors import DataError, ModelError

MAX_THREADS = 1024
"""The most threads that may share the work of a call."""

THREADS_VARIABLE = "BIPER_THREADS"
"""The environment variable that says how many threads a model uses whose caller does not say it."""

Float = TypeVar("Float", bound=np.floating[Any])


def require_count(name: str, given: SupportsIndex, most: int | None = None) -> int:
    """A positive integer.

    Args:
        name: the name of the argument, for the error message.
        given: what the caller passed.
        most: the largest number that is accepted.

    Raises:
        ModelError: it is no integer, or out of range.
    """
    try:
        count = operator.index(given)
    except TypeError:
        count = 0
    if isinstance(given, bool) or count < 1 or (most is not None and count > most):
        wanted = "a positive integer" if most is None else f"an integer from 1 to {most}"
        raise ModelError(f"{name}=... expects {wanted}, got {given!r}")
    return count


def thread_count(given: SupportsIndex | None) -> int:
    """How many threads share the work of a call: what the caller says, else ``BIPER_THREADS``, else 1.

    Raises:
        ModelError: it is no number from 1 to 1024.
    """
    if given is not None:
        return require_count("threads", given, MAX_THREADS)
    text = os.environ.get(THREADS_VARIABLE, "1")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_THREADS):
        raise ModelError(f"{THREADS_VARIABLE} expects an integer from 1 to {MAX_THREADS}, got {text[:40]!r}")
    return int(text)


def require_memory(name: str, given: int, each: int) -> None:
    """Check that arrays may fit into the memory of this machine.

    Args:
        name: the name of the argument that says how many there are, for the error message.
        given: how many there are.
        each: the bytes of each.

    Raises:
        ModelError: they are larger than the whole memory.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if given * each > memory:
        raise ModelError(
            f"{name}=... expects at most {memory // each:,} here, got {given:,}: they would take {given * each:,} "
            f"bytes, and this machine has {memory:,}"
        )


def as_array(images: object) -> NDArray[Any]:
    """Images as an array.

    Raises:
        DataError: they differ in shape.
    """
    try:
        return np.asarray(images)
    except ValueError as error:
        raise DataError(f"expected an array of images of one shape: {error}") from error


def require_finite(images: NDArray[Float], what: str) -> NDArray[Float]:
    """The arrays, one for each image, if all their values are finite numbers.

    Raises:
        DataError: a value is NaN or infinite; the text names the first such image.
    """
    finite = np.isfinite(images)
    if not finite.all():
        first = int(np.argmin(finite.reshape(len(images), -1).all(1)))
        raise DataError(f"expected finite numbers, got NaN or infinity in {what} {first} of {len(images)}")
    return images
