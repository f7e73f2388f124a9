"""Where the elements of a value lie in C, and the nested loops that an operation on arrays makes over them.

Images (C, H, W) are [row][column][channel]. So are arrays of three axes, and of four of which the first has size 1, so
that a reshape between the two moves nothing. All other arrays are in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Shape

Strides = tuple[int, ...]

Loop = tuple[int, ...]
"""One loop: its count, and for each operand by how many elements a step moves."""


def is_image(shape: Shape) -> bool:
    """Whether a value of this shape is stored as [row][column][channel]."""
    return len(shape) == 3 or (len(shape) == 4 and shape[0] == 1)


def strides_of(shape: Shape) -> Strides:
    """How far apart in memory the elements along each axis of a value are."""
    order = list(range(len(shape)))
    if is_image(shape):
        order.append(order.pop(-3))
    strides = [0] * len(shape)
    for place, axis in enumerate(order):
        strides[axis] = math.prod(shape[inner] for inner in order[place + 1 :])
    return tuple(strides)


def broadcast_strides(shape: Shape, to: Shape) -> Strides:
    """The strides of a value that is read in another shape to which it broadcasts: 0 along repeated axes."""
    strides = [0 if size == 1 else step for size, step in zip(shape, strides_of(shape), strict=True)]
    return (0,) * (len(to) - len(shape)) + tuple(strides)


def row_major(shape: Shape) -> Strides:
    """The strides of elements in row-major order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def same_order(shape: Shape, other: Shape) -> bool:
    """Whether a reshape between these shapes leaves every element where it is."""
    return all(_reads_in_order(each) for each in (shape, other)) or _image_sizes(shape) == _image_sizes(other)


def _reads_in_order(shape: Shape) -> bool:
    pairs = zip(shape, strides_of(shape), row_major(shape), strict=True)
    return all(step == plain for size, step, plain in pairs if size > 1)


def _image_sizes(shape: Shape) -> Shape | None:
    return shape[-3:] if is_image(shape) else None


def loops(sizes: Sequence[int], *operands: Sequence[int], by: int = -1) -> list[Loop]:
    """As few nested loops as do the work, the outermost first.

    Args:
        sizes: of the axes.
        operands: for each operand, its strides along the axes.
        by: the operand that is to move in the smallest steps in the innermost loop.
    """
    rows = [(size, *steps) for size, *steps in zip(sizes, *operands, strict=True) if size > 1]
    rows.sort(key=lambda row: -row[1:][by])
    merged: list[Loop] = []
    for row in rows:
        if merged and all(outer == row[0] * inner for outer, inner in zip(merged[-1][1:], row[1:], strict=True)):
            merged[-1] = (merged[-1][0] * row[0], *row[1:])
        else:
            merged.append(row)
    return merged


def places_of(shape: Shape) -> NDArray[np.int32]:
    """Where in memory each element of a value lies, the elements in row-major order."""
    grid = np.indices(shape).reshape(len(shape), math.prod(shape))
    return np.asarray(np.array(strides_of(shape), np.int64) @ grid, np.int32)


def common_axes(shape: Shape, other: Shape) -> tuple[Shape, tuple[Strides, Strides]] | None:
    """Axes into which both shapes of a reshape can be split.

    Returns:
        Their sizes, and the steps of both values along them; None if there are no such axes.
    """
    if _reads_in_order(shape) and _reads_in_order(other):
        return (math.prod(shape),), ((1,), (1,))
    counts = {math.prod(each[axis:]) for each in (shape, other) for axis in range(len(each) + 1)}
    ends = sorted(counts, reverse=True)
    if any(outer % inner for outer, inner in pairwise(ends)):
        return None
    sizes = tuple(outer // inner for outer, inner in pairwise(ends))
    return sizes, (_steps(shape, ends[1:]), _steps(other, ends[1:]))


def _steps(shape: Shape, counts: Sequence[int]) -> Strides:
    """For each number of elements in row-major order, how far apart in memory elements are that are so far apart."""
    places = list(zip(row_major(shape), strides_of(shape), strict=True))
    return tuple(next((step * (count // plain) for plain, step in places if count % plain == 0), 0) for count in counts)
