"""A packed program in integers alone, for processors without floating point; `run_fixed` defines it in NumPy.

Every real value is int16, ``x = q / 2^exponent``, with one exponent for each value: the largest with which the value
fits into int16. How large it can be follows from the weights and the range of pixels. Where images are given, it is
twice the largest magnitude on them instead, and what is beyond saturates. Real convolutions have int8 weights
``w = scale * q_w``, with one scale for each channel, so the sums

    convolution: sum of x_q w_q        binary convolution: sum of products of signs        pool: maximum, or sum

are integers. A small real convolution of pixels has int32 weights with the normalization, ``w_q = round(w 2^e)``, and
no scale. The epilogue computes in int32 at an exponent of its own, ``e``, the largest that cannot overflow:

    y = floor((sum << up) * multiplier / 2^16) + offset        multiplier int16, offset int32, a channel each
    y = y + residual << residual_up                            activation: clip, relu, prelu, at the same exponent
    bits = y >= 0                                              result = saturate(round(y >> (e - exponent)))

which needs products of 32 by 16 bits and no division. Where the sums are small, as those of signs are, the multiplier
is an int32 without a shift, ``y = sum * multiplier + offset``; a clip at the ends of int16 is left to saturation. The
clipped values between residual blocks are rounded down, and an integer ``q`` stands for the midpoint
``(q + 1/2) * high / 32767.5``, so that the ends of int16 are exactly those of the clip. Offsets take care of the 1/2.
Operations on arrays move integers to other places; a result
has the exponent of its input, or the least of several. Pictures are pixels, 0 to 255, and the first operation is
their normalization. Signals and vectors are normalized numbers, int16 at an exponent of their own.
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations import OPERATIONS
from biper.runtime.operations.convolution import convolve
from biper.runtime.program import Operation, Program, unpack_weight

Array = NDArray[Any]

PIXELS = "pixels"
"""The name of the first operation, which reads the image as bytes; its affine is the normalization."""

PIXEL_CONVOLUTION = "pixel_convolution"
"""The name of a real convolution that reads the image as bytes; the normalization is folded into its weights."""

FROM_PIXELS = frozenset({PIXELS, PIXEL_CONVOLUTION})
"""The operations that read the image as bytes."""

IMAGE = "image"
"""The name of the normalized input."""

INT16, INT32 = (1 << 15) - 1, (1 << 31) - 1
"""The largest integers of 16 and of 32 bits."""


@dataclass(frozen=True)
class FixedOperation:
    """One operation in integers; the module's docstring says how they are used.

    Attributes:
        op: the operation of the program.
        exponent: of its real result.
        weight: int8 (O, I / groups, kh, kw), of a real convolution; int32 of one that reads pixels.
        tap_offset: int32 (O, kh, kw), of a convolution that reads pixels: each tap inside the image adds its own.
        multiplier, offset, slope: one integer for each channel.
        direct: whether the sums are multiplied by int32 multipliers without a shift.
        up: the power of 2 by which the sums, or the elements, of each input are multiplied.
        residual_up, slope_up, down: the powers of 2 by which the residual, the negative side of a prelu and the result
            are multiplied.
        floor: whether the result is rounded down: its integers then stand for midpoints.
        low, high: the ends of a clip.
        factors: by what the sums of an average pool are multiplied, for rows and for columns, where windows are cut at
            the border.
    """

    op: Operation
    exponent: int = 0
    weight: Array | None = None
    tap_offset: Array | None = None
    multiplier: Array | None = None
    offset: Array | None = None
    slope: Array | None = None
    direct: bool = False
    up: tuple[int, ...] = (0,)
    residual_up: int = 0
    slope_up: int = 0
    down: int = 0
    floor: bool = False
    low: int = -INT32
    high: int = INT32
    factors: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class FixedProgram:
    """A program in integers.

    Attributes:
        program: the program that it computes; its first operation is `PIXELS`, or it has an input `IMAGE`.
        operations: one for each operation of ``program``.
        exponents: of its real values, by name.
    """

    program: Program
    operations: tuple[FixedOperation, ...]
    exponents: dict[str, int] = field(default_factory=dict)

    @property
    def output_exponent(self) -> int:
        """The exponent of the outputs: a real output is ``output / 2^output_exponent``."""
        return self.exponents[self.program.output]


def run_fixed(fixed: FixedProgram, images: NDArray[Any]) -> dict[str, Array]:
    """Compute every value of a program in integers; compiled C gives the same.

    Args:
        fixed: the program.
        images: pixels, uint8 (N, H, W, C), if the first operation reads pixels; else normalized numbers, floating point
            (N, C, H, W), which are rounded to the exponent of `IMAGE`.

    Returns:
        The values by name: real values int64 (N, C, H, W) that fit into int16, bits as bool.
    """
    values: dict[str, Array] = {}
    if IMAGE in fixed.program.inputs:
        numbers = np.rint(images.astype(np.float64) * 2.0 ** fixed.exponents[IMAGE])
        values[IMAGE] = np.clip(numbers, -INT16 - 1, INT16).astype(np.int64)
    else:
        values[PIXELS] = images.astype(np.int64).transpose(0, 3, 1, 2)
    for step in fixed.operations:
        op = step.op
        if op.operation not in FROM_PIXELS and not OPERATIONS[op.operation].on_images:
            values[op.real or ""] = _array(step, [values[name] for name in op.inputs], len(images))
            continue
        sums = [_in_int32(part) for part in _sums(step, [values[name] for name in op.inputs or (PIXELS,)])]
        if "threshold" in op.tensors:
            values[op.bits or ""] = sums[0] >= op.tensors["threshold"].reshape(-1, 1, 1)
            continue
        y = np.concatenate([_moved(part, up) for part, up in zip(sums, step.up, strict=True)], axis=1)
        y = _epilogue(step, y, values)
        if op.bits is not None:
            values[op.bits] = y >= 0
        if op.real is not None:
            stored = y >> -step.down if step.floor and step.down < 0 else _moved(y, step.down)
            values[op.real] = np.clip(stored, -INT16 - 1, INT16)
    return values


def _array(step: FixedOperation, inputs: list[Array], count: int) -> Array:
    """An operation on arrays, which moves integers to other places, at one exponent."""
    moved = [_moved(x, up) for x, up in zip(inputs, step.up, strict=False)]
    compute = OPERATIONS[step.op.operation].compute
    return np.array([compute(step.op, [x[image] for x in moved]) for image in range(count)], np.int64)


def _sums(step: FixedOperation, inputs: list[Array]) -> list[Array]:
    op, x = step.op, inputs[0]
    match op.operation:
        case _ if op.operation == PIXEL_CONVOLUTION:
            assert step.weight is not None
            assert step.tap_offset is not None
            ones = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)), constant_values=1)
            with_offset = np.concatenate([step.weight, step.tap_offset[:, None]], 1)
            return [convolve(op, ones.astype(np.float64), with_offset).astype(np.int64)]
        case "convolution" | "binary_convolution":
            weight = step.weight
            if weight is None:
                weight = unpack_weight(op.tensors["weight"], x.shape[1] // op.attributes["groups"])
            exact = x * 2.0 - 1 if x.dtype == bool else x.astype(np.float64)  # float64 holds the sums exactly
            return [convolve(op, exact, weight).astype(np.int64)]
        case "pool":
            return [_pool(step, x)]
        case "pad_channels":
            return [np.pad(x, ((0, 0), (op.attributes["before"], op.attributes["after"]), (0, 0), (0, 0)))]
        case "resize":
            rows, columns = (np.arange(op.shape[i]) * x.shape[1 + i] // op.shape[i] for i in (1, 2))
            return [x[:, :, rows][:, :, :, columns]]
        case "flatten":
            return [x.reshape(len(x), -1, 1, 1)]
    return inputs


def _pool(step: FixedOperation, x: Array) -> Array:
    op = step.op
    y = np.empty((*x.shape[:2], *op.shape[1:]), np.int64)
    for row, column in np.ndindex(*op.shape[1:]):
        ys, xs = (window_of(op, axis, at, x.shape[2 + axis]) for axis, at in ((0, row), (1, column)))
        window = x[:, :, ys, xs]
        y[:, :, row, column] = window.max((2, 3)) if op.attributes["kind"] == "max" else window.sum((2, 3))
    return y if step.factors is None else y * step.factors[0][:, None].astype(np.int64) * step.factors[1]


def window_of(op: Operation, axis: int, at: int, size: int) -> slice:
    """The rows (or columns, axis 1) of an input of ``size`` that a window of a pool reads."""
    start = at * op.attributes["stride"][axis] - op.attributes["padding"][axis]
    return slice(max(start, 0), min(start + op.attributes["kernel"][axis], size))


def _epilogue(step: FixedOperation, y: Array, values: dict[str, Array]) -> Array:
    op = step.op
    if step.direct:
        assert step.multiplier is not None
        y = _in_int32(y * step.multiplier.astype(np.int64).reshape(-1, 1, 1))
    elif step.multiplier is not None:
        y = _scaled(_in_int32(y), step.multiplier)
    if step.offset is not None:
        y = y + step.offset.reshape(-1, 1, 1)
    if op.residual is not None:
        y = y + _in_int32(_moved(values[op.residual], step.residual_up))
    y = _in_int32(y)
    match op.attributes.get("activation"):
        case "clip":
            return np.clip(y, step.low, step.high)
        case "relu":
            return np.maximum(y, 0)
        case "prelu":
            assert step.slope is not None
            return np.where(y >= 0, y, _in_int32(_moved(_scaled(y, step.slope), step.slope_up)))
    return y


def _scaled(y: Array, multiplier: Array) -> Array:
    """``floor(y * multiplier / 2^16)``, by channel."""
    return (y * multiplier.astype(np.int64).reshape(-1, 1, 1)) >> 16


def _moved(y: Array, by: int) -> Array:
    """``y * 2^by``, rounded where ``by`` is negative."""
    return _in_int32(y << by if by >= 0 else (y + (1 << (-by - 1))) >> -by)


def _in_int32(y: Array) -> Array:
    assert y.size == 0 or -INT32 <= int(y.min()) <= int(y.max()) <= INT32, "an integer sum overflows"
    return y
