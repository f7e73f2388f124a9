"""What is known of a value in integers: its range, and the real numbers that its integers stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.targets.c.fixed_point import INT16, FixedOperation

Array = NDArray[Any]

LARGEST_TERM = 1 << 30
"""The magnitude that a term of an epilogue stays below, so that the sum of two fits into int32."""

MIDPOINT_SCALE = 65536 / 65535
"""The scale with which -32768 + 1/2 and 32767 + 1/2 stand for the ends of a clip."""

LEAST = 2.0**-14
"""The magnitude that every value is taken to reach, so that the exponent of a value that is always 0 is finite."""


class DifferentScalesError(Exception):
    """Values of different scales meet where no multiplier can make them equal."""


@dataclass
class Range:
    """The range of a real value: ``low`` and ``high`` by channel, and what its integers ``q`` stand for.

    Its integers are at most ``most`` in magnitude, or one more where they are negative.

    They stand for ``(q + zero) * scale / 2^exponent``. Scale is 1 and zero is 0, but for clipped values of which the
    ends of int16 are to be the ends of the clip: `MIDPOINT_SCALE` and 1/2.
    """

    low: Array
    high: Array
    exponent: int
    scale: float = 1.0
    zero: float = 0.0
    most: int = INT16

    @property
    def unit(self) -> float:
        """The real number that an integer of 1 stands for."""
        return float(self.scale * 2.0**-self.exponent)

    @property
    def largest(self) -> int:
        """The largest magnitude of its integers; rounding may take them up to 4 beyond the range."""
        reached = float(np.maximum(np.abs(self.low), np.abs(self.high)).max())
        return min(math.ceil(reached * 2.0**self.exponent) + 4, self.most + 1)


@dataclass
class Sums:
    """The sums that an operation computes before its epilogue.

    Attributes:
        step: the operation.
        low, high: the range of the sums as real numbers, by channel.
        unit: the real number that an integer sum of 1 stands for, by channel.
        limit: the largest magnitude that the integer sums, and the partial sums on the way to them, can have.
        exponents: of the inputs, where the sums are the inputs themselves.
        zero: what is to be added to the integer sums, because integers of the inputs are midpoints.
        exact: the exponent of the sums, if all channels have the same and the offset may be added to them.
    """

    step: FixedOperation
    low: Array
    high: Array
    unit: Array
    limit: int
    exponents: tuple[int, ...] = ()
    exact: int | None = None
    zero: float = 0.0


def is_power_of_2(factor: Array) -> bool:
    """Whether all factors are the same power of 2."""
    return bool((factor == factor[0]).all()) and math.frexp(float(factor[0]))[0] == 0.5


def floor_log2(value: float) -> int:
    """The largest whole exponent of 2 with which the power is not above a value."""
    return math.frexp(value)[1] - 1
