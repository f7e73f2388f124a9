"""A packed program in integers alone, for processors without floating point.

`biper.targets.c.fixed_reference` computes it in NumPy.

Every real value is int16, ``x = q / 2^exponent``, with one exponent for each value: the largest with which the value
fits into int16. How large it can be follows from the weights and the range of pixels. Where images are given, it is
twice the largest magnitude on them instead, and what is beyond saturates. Real convolutions have int8 weights
``w = scale * q_w``, with one scale for each channel, so the sums

    convolution: sum of x_q w_q        binary convolution: sum of products of signs        pool: maximum, or sum

are integers. A small real convolution of pixels has int32 weights with the normalization, ``w_q = round(w 2^e)``, and
no scale. The epilogue computes in int32 at an exponent of its own, ``e``, the largest that cannot overflow:

    y = floor((sum << up) * multiplier / 2^16) + offset        multiplier int16, offset int32, a channel each
    y = y + residual << residual_up                            activation: clip, relu, prelu, at the same exponent
    bits = y + signs >= 0                                      result = saturate(round(y >> (e - exponent)))

which needs products of 32 by 16 bits and no division. Where the sums are small, as those of signs are, the multiplier
is an int32 without a shift, ``y = sum * multiplier + offset``; a clip at the ends of int16 is left to saturation. The
clipped values between residual blocks are rounded down, and an integer ``q`` stands for the midpoint
``(q + 1/2) * high / 32767.5``, so that the ends of int16 are exactly those of the clip. Offsets take care of the 1/2.

The signs of a deep network multiply an error: a value that is rounded at 16 bits changes about one sign of 15,000, and
in wide networks one sign in ten differs behind 16 layers. With ``value_bits=32`` the values are int32 instead, stored
with up to 28 bits as the epilogue computes them, and nothing is rounded between residual blocks. What a real
convolution reads keeps 16 bits, so that its sums fit into 32, and what an average pool reads has as many as its sums
allow. Slopes of prelu are then of 32 bits. Clips stay clips, and no integer is a midpoint.

Operations that move elements of arrays give a result the exponent of its input, or the least of several; those that
compute are in `biper.targets.c.fixed_arrays`. Pictures are pixels, 0 to 255, and the first operation is their
normalization. Signals and vectors are normalized numbers, int16 at an exponent of their own.
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program

Array = NDArray[Any]

PIXELS = "pixels"
"""The name of the first operation, which reads the image as bytes; its affine is the normalization."""

PIXEL_CONVOLUTION = "pixel_convolution"
"""The name of a real convolution that reads the image as bytes; the normalization is folded into its weights."""

FROM_PIXELS = frozenset({PIXELS, PIXEL_CONVOLUTION})
"""The operations that read the image as bytes."""

SIGN_OFFSET = "sign_offset"
"""The name of the tensor (C,) that is added to a result before its signs are taken, and not to the real result."""

IMAGE = "image"
"""The name of the normalized input."""

INT16, INT32 = (1 << 15) - 1, (1 << 31) - 1
"""The largest integers of 16 and of 32 bits."""

WIDE = (1 << 28) - 1
"""The largest integer of a value that is stored in 32 bits: sums of a few do not overflow."""

LARGEST = {16: INT16, 32: WIDE}
"""The bits that real values can be stored in, and the largest integer that they then have."""

DIRECT_DOWN = {16: 8, 32: 0}
"""By how much sums of signs, times their multipliers, are moved down to a result where no sum overflows, by the bits of
values: the constant `DOWN` of ``fixed.c``."""


@dataclass(frozen=True)
class LookupTable:
    """A function of one integer: numbers at equal distances, with straight lines between them.

    Attributes:
        values: int16, the function at ``first``, ``first + 2^cell``, ``first + 2 * 2^cell`` and so on.
        first: the integer of the first number.
        low, high: the ends; other integers count as the nearest of them.
        cell: the power of 2 that is the distance.
    """

    values: NDArray[np.int16]
    first: int
    low: int
    high: int
    cell: int

    def __call__(self, x: Array) -> Array:
        """The function of integers, int64 of any shape."""
        place = np.clip(x, self.low, self.high) - self.first
        at, rest = place >> self.cell, place & (1 << self.cell) - 1
        values = self.values.astype(np.int64)
        return np.asarray(values[at] + ((values[at + 1] - values[at]) * rest + (1 << self.cell >> 1) >> self.cell))


@dataclass(frozen=True)
class FixedOperation:
    """One operation in integers; the module's docstring says how they are used.

    Attributes:
        op: the operation of the program.
        exponent: of its real result.
        weight: int8 (O, I / groups, kh, kw), of a real convolution; int32 of one that reads pixels.
        tap_offset: int32 (O, kh, kw), of a convolution that reads pixels: each tap inside the image adds its own.
        multiplier, offset, slope: one integer for each channel.
        signs: int32, what is added to the number of each channel before its sign is taken; None for nothing.
        direct: whether the sums are multiplied by int32 multipliers without a shift.
        up: the power of 2 by which the sums, or the elements, of each input are multiplied.
        residual_up, slope_up, down: the powers of 2 by which the residual, the negative side of a prelu and the result
            are multiplied.
        floor: whether the result is rounded down: its integers then stand for midpoints.
        low, high: the ends of a clip.
        factors: by what the sums of an average pool are multiplied, for rows and for columns, where windows are cut at
            the border.
        table: the function of one value, or the exponential of a softmax.
        epsilon: what a normalization adds to ``n Q - S^2``.
        value_bits: the bits that its real result is stored in.
        largest: the largest integer that its real result is saturated to; the least is one less than its negative.
    """

    op: Operation
    exponent: int = 0
    weight: Array | None = None
    tap_offset: Array | None = None
    multiplier: Array | None = None
    offset: Array | None = None
    slope: Array | None = None
    signs: Array | None = None
    direct: bool = False
    up: tuple[int, ...] = (0,)
    residual_up: int = 0
    slope_up: int = 0
    down: int = 0
    floor: bool = False
    low: int = -INT32
    high: int = INT32
    factors: tuple[Array, Array] | None = None
    table: LookupTable | None = None
    epsilon: int = 0
    value_bits: int = 16
    largest: int = INT16

    @property
    def fast(self) -> bool:
        """Whether C finishes results of 16 channels in one go, where there are 16: nothing else is done to the sums."""
        if self.op.real is None or self.op.attributes.get("activation", "prelu") != "prelu":
            return False
        if self.largest != LARGEST[self.value_bits] or (self.signs is not None and self.slope is None):
            return False
        if self.direct:
            down = DIRECT_DOWN[self.value_bits]
            return self.op.residual is not None and self.down == -down and self.residual_up >= 0
        return (
            self.down < 0
            and self.multiplier is None
            and self.offset is None
            and self.op.residual is None
            and self.up == (0,)
        )


@dataclass(frozen=True)
class FixedProgram:
    """A program in integers.

    Attributes:
        program: the program that it computes; its first operation is `PIXELS`, or it has an input `IMAGE`.
        operations: one for each operation of ``program``.
        exponents: of its real values, by name.
        value_bits: the bits that real values are stored in, 16 or 32.
    """

    program: Program
    operations: tuple[FixedOperation, ...]
    exponents: dict[str, int] = field(default_factory=dict)
    value_bits: int = 16

    @property
    def output_exponent(self) -> int:
        """The exponent of the outputs: a real output is ``output / 2^output_exponent``."""
        return self.exponents[self.program.output]


def window_of(op: Operation, axis: int, at: int, size: int) -> slice:
    """The rows (or columns, axis 1) of an input of ``size`` that a window of a pool reads."""
    start = at * op.attributes["stride"][axis] - op.attributes["padding"][axis]
    return slice(max(start, 0), min(start + op.attributes["kernel"][axis], size))


def moved(y: Array, by: int) -> Array:
    """``y * 2^by``, rounded where ``by`` is negative."""
    return in_int32(y << by if by >= 0 else (y + (1 << (-by - 1))) >> -by)


def in_int32(y: Array) -> Array:
    """The same integers, which int32 holds."""
    assert y.size == 0 or -INT32 <= int(y.min()) <= int(y.max()) <= INT32, "an integer sum overflows"
    return y
