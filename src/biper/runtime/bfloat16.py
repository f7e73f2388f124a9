"""Numbers in bfloat16, which NumPy does not have: the upper 16 bits of a float32, here as uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The bits of values, rounded to bfloat16: to 8 significant bits, halves to even.

    A number above 3.3895e38, the largest of bfloat16, becomes infinite. NaN stays NaN.
    """
    floats = np.asarray(values, np.float32, order="C")
    bits = floats.view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(floats), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The numbers that bits of bfloat16 stand for, each of which is a float32."""
    return (np.asarray(bits, order="C").astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to_bfloat16(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values rounded to bfloat16, as float32; see `to_bfloat16`."""
    return from_bfloat16(to_bfloat16(values))


def are_finite(bits: NDArray[np.uint16]) -> bool:
    """Whether no number is NaN or infinite."""
    return not bool(((bits & np.uint16(0x7F80)) == 0x7F80).any())
