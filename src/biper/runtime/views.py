"""Views: an array as a part of a value of the native engine, in any order of axes. Views take no work at run time.

``native/engine/views.h`` explains the layouts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from biper.runtime.program import Shape

LANES = 16
"""The channels of a pixel of an image are padded to a multiple of this."""


def rounded(count: int) -> int:
    """The least multiple of ``LANES`` that is not smaller."""
    return -(-count // LANES) * LANES


def dense_strides(shape: Shape) -> Shape:
    """The strides of an array in row-major order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def image_strides(shape: Shape) -> Shape:
    """The strides of an image (C, H, W) in the layout that operations on images read and write."""
    pixel = rounded(shape[0])
    return (1, shape[2] * pixel, pixel)


@dataclass(frozen=True)
class View:
    """An array whose element (i, j, ...) is number ``offset + i * strides[0] + j * strides[1] + ...`` of a value.

    Attributes:
        value: the id of the value in the native engine.
        shape: of the array.
        strides: as many as the shape has sizes. That of an axis of size 1 means nothing.
        offset: the place of the first element.
    """

    value: int
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def is_image(self) -> bool:
        """Whether the array (C, H, W) is in the layout of images."""
        if len(self.shape) != 3 or self.offset % LANES:
            return False
        expected = zip(self.shape, self.strides, image_strides(self.shape), strict=True)
        return all(size == 1 or stride == other for size, stride, other in expected)

    def permute(self, order: Sequence[int]) -> View:
        """Axis ``i`` of the result is axis ``order[i]``."""
        shape, strides = (tuple(sizes[axis] for axis in order) for sizes in (self.shape, self.strides))
        return View(self.value, shape, strides, self.offset)

    def slice(self, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> View:
        """``sizes[i]`` elements from ``starts[i]`` in steps of ``steps[i]`` along axis ``i``."""
        offset = self.offset + sum(start * stride for start, stride in zip(starts, self.strides, strict=True))
        strides = tuple(step * stride for step, stride in zip(steps, self.strides, strict=True))
        # The stride of one element means nothing, and a large step could leave the range that the engine allows.
        kept = tuple(stride if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True))
        return View(self.value, tuple(sizes), kept, offset)

    def expand(self, shape: Shape) -> View:
        """The array as broadcasting to ``shape`` has it."""
        new = len(shape) - len(self.shape)
        pairs = zip(self.shape, shape[new:], self.strides, strict=True)
        return View(
            self.value, shape, (0,) * new + tuple(0 if old != size else stride for old, size, stride in pairs),
            self.offset,
        )  # fmt: skip

    def reshape(self, shape: Shape) -> View | None:
        """The same elements in row-major order in another shape; None if no strides describe them."""
        old = [(size, stride) for size, stride in zip(self.shape, self.strides, strict=True) if size > 1]
        strides, first = [0] * len(shape), 0
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        begin = 0
        while begin < len(axes):
            # The least groups of old axes and of new axes that have the same number of elements.
            last, end = first + 1, begin + 1
            while (before := math.prod(size for size, _ in old[first:last])) != (
                after := math.prod(shape[axis] for axis in axes[begin:end])
            ):
                last, end = (last + 1, end) if before < after else (last, end + 1)
            group = old[first:last]
            follows = pairwise(group)
            if any(stride != size * inner for (_, stride), (size, inner) in follows):
                return None
            step = group[-1][1]
            for axis in reversed(axes[begin:end]):
                strides[axis] = step
                step *= shape[axis]
            first, begin = last, end
        return View(self.value, shape, tuple(strides), self.offset)


def strides_like(views: Sequence[View], shape: Shape) -> Shape:
    """Strides of a new array of this shape, in the order in which one of the views has its elements in memory.

    The first view of the same rank that repeats nothing decides; without one the order is row-major. Where it has the
    channels of its pixels padded to a multiple of ``LANES``, so has the new array.
    """
    for view in views:
        axes = [axis for axis, size in enumerate(view.shape) if size > 1]
        if len(view.shape) != len(shape) or not axes or any(view.strides[axis] == 0 for axis in axes):
            continue
        order = sorted(axes, key=lambda axis: -view.strides[axis])
        inner = order[-1]
        pads = len(order) > 1 and view.strides[inner] == 1 and shape[inner] > 1
        pads = pads and view.strides[order[-2]] == rounded(view.shape[inner]) != view.shape[inner]
        strides, step = [0] * len(shape), 1
        for axis in reversed([axis for axis in range(len(shape)) if axis not in axes] + order):
            strides[axis] = step if shape[axis] > 1 else 0
            step *= rounded(shape[axis]) if pads and axis == inner else shape[axis]
        return tuple(strides)
    return dense_strides(shape)
