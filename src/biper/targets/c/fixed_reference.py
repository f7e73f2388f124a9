"""Computes a program in integers with NumPy, as compiled C does.

`biper.targets.c.fixed_point` and `biper.targets.c.fixed_arrays` say what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations import OPERATIONS
from biper.runtime.operations.arithmetic import BINARY
from biper.runtime.operations.convolution import convolve
from biper.runtime.program import unpack_weight
from biper.targets.c.fixed_arrays import ONE, computes, reduced_count
from biper.targets.c.fixed_point import (
    FROM_PIXELS,
    IMAGE,
    INT16,
    INT32,
    PIXEL_CONVOLUTION,
    PIXELS,
    FixedOperation,
    FixedProgram,
    in_int32,
    moved,
    window_of,
)

Array = NDArray[Any]


def run_fixed(fixed: FixedProgram, images: NDArray[Any]) -> dict[str, Array]:
    """Compute every value of a program in integers; compiled C gives the same.

    Args:
        fixed: the program.
        images: pixels, uint8 (N, H, W, C), if the first operation reads pixels; else normalized numbers, floating point
            (N, C, H, W), which are rounded to the exponent of `IMAGE`.

    Returns:
        The values by name: real values int64 (N, C, H, W) that fit into the bits of values, bits as bool.
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
        sums = [in_int32(part) for part in _sums(step, [values[name] for name in op.inputs or (PIXELS,)])]
        if "threshold" in op.tensors:
            values[op.bits or ""] = sums[0] >= op.tensors["threshold"].reshape(-1, 1, 1)
            continue
        y = np.concatenate([moved(part, up) for part, up in zip(sums, step.up, strict=True)], axis=1)
        y = _epilogue(step, y, values)
        if op.bits is not None:
            values[op.bits] = (y if step.signs is None else in_int32(y + step.signs.reshape(-1, 1, 1))) >= 0
        if op.real is not None:
            stored = y >> -step.down if step.floor and step.down < 0 else moved(y, step.down)
            values[op.real] = np.clip(stored, -step.largest - 1, step.largest)
    return values


def _array(step: FixedOperation, inputs: list[Array], count: int) -> Array:
    """An operation on arrays, image by image."""
    if computes(step.op):
        compute = _COMPUTATIONS[step.op.operation]
        return np.array([compute(step, [x[image] for x in inputs]) for image in range(count)], np.int64)
    there = [moved(x, up) for x, up in zip(inputs, step.up, strict=False)]
    move = OPERATIONS[step.op.operation].compute
    return np.array([move(step.op, [x[image] for x in there]) for image in range(count)], np.int64)


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


def _epilogue(step: FixedOperation, y: Array, values: dict[str, Array]) -> Array:
    op = step.op
    if step.direct:
        assert step.multiplier is not None
        y = in_int32(y * step.multiplier.astype(np.int64).reshape(-1, 1, 1))
    elif step.multiplier is not None:
        y = _scaled(in_int32(y), step.multiplier)
    if step.offset is not None:
        y = y + step.offset.reshape(-1, 1, 1)
    if op.residual is not None:
        y = y + in_int32(moved(values[op.residual], step.residual_up))
    y = in_int32(y)
    match op.attributes.get("activation"):
        case "clip":
            return np.clip(y, step.low, step.high)
        case "relu":
            return np.maximum(y, 0)
        case "prelu":
            assert step.slope is not None
            below = in_int32(moved(_scaled(y, step.slope, step.value_bits), step.slope_up))
            return np.where(y >= 0, y, below)
    return y


def _scaled(y: Array, multiplier: Array, bits: int = 16) -> Array:
    """``floor(y * multiplier / 2^bits)``, by channel."""
    return (y * multiplier.astype(np.int64).reshape(-1, 1, 1)) >> bits


def _stored(step: FixedOperation, y: Array) -> Array:
    """Integers at the exponent of the result, which is never larger than theirs, saturated to int16."""
    return np.asarray(np.clip((y + (1 << -step.down >> 1)) >> -step.down, -INT16 - 1, INT16))


def _computed_unary(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    assert step.table is not None
    return step.table(inputs[0])


def _computed_binary(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    x, y = (moved(value, up) for value, up in zip(inputs, step.up, strict=True))
    function = step.op.attributes["function"]
    if function == "divide":
        x, y = np.broadcast_arrays(x, y)
        quotient = np.abs(x) // np.maximum(np.abs(y), 1) * np.sign(x) * np.sign(y)
        return _stored(step, np.where(y == 0, np.sign(x) * (INT32 // 2), quotient))
    made = BINARY[function](x, y)
    return _stored(step, made.astype(np.int64) << ONE if made.dtype == bool else made)


def _computed_select(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    yes, no = (moved(value, up) for value, up in zip(inputs[1:], step.up[1:], strict=True))
    return _stored(step, np.where(inputs[0] != 0, yes, no))


def _computed_reduce(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    get = step.op.attributes
    axes, keep = tuple(get["axes"]), get["keep"]
    if step.multiplier is None:
        extreme = np.max if get["function"] == "max" else np.min
        return _stored(step, np.asarray(extreme(inputs[0], axis=axes, keepdims=keep)))
    sums = moved(np.asarray(inputs[0].sum(axes, keepdims=keep)), step.up[0])
    return _stored(step, sums * int(step.multiplier[0]) >> 16)


def _computed_softmax(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    assert step.table is not None
    x, axis = inputs[0], step.op.attributes["axis"]
    weights = step.table(x - x.max(axis, keepdims=True))
    total = weights.sum(axis, keepdims=True)
    return _stored(step, ((weights << ONE) + total // 2) // total)


def _computed_normalize(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    axes, x = tuple(step.op.attributes["axes"]), moved(inputs[0], step.up[0])
    count = reduced_count(step.op, x.shape)
    total = x.sum(axes, keepdims=True) * int(step.op.attributes["center"])
    square = count * (x * x).sum(axes, keepdims=True) - total * total + step.epsilon
    root, more = _roots(square)
    away = count * x - total
    size = (np.abs(away) << step.exponent + more) // np.maximum(root, 1)
    return np.asarray(np.clip(np.sign(away) * size, -INT16 - 1, INT16))


def _roots(square: Array) -> tuple[Array, Array]:
    """Roots of numbers that were first multiplied by 4 until they have 61 or 62 bits, and how often they were."""
    more = np.zeros_like(square)
    for _ in range(31):
        small = (square > 0) & (square < 1 << 60)
        square, more = np.where(small, square << 2, square), more + small
    return np.asarray(np.frompyfunc(math.isqrt, 1, 1)(square), np.int64), more


def _computed_matmul(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    return _stored(step, inputs[0] @ inputs[1])


def _computed_sample(step: FixedOperation, inputs: Sequence[Array]) -> Array:
    assert step.weight is not None
    op = replace(step.op, tensors={**step.op.tensors, "weight": step.weight.astype(np.int64)})
    return _stored(step, OPERATIONS["sample"].compute(op, [inputs[0]]))


_COMPUTATIONS: dict[str, Callable[[FixedOperation, Sequence[Array]], Array]] = {
    "unary": _computed_unary,
    "binary": _computed_binary,
    "select": _computed_select,
    "reduce": _computed_reduce,
    "softmax": _computed_softmax,
    "normalize": _computed_normalize,
    "matmul": _computed_matmul,
    "sample": _computed_sample,
}
