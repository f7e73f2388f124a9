"""Operations on arrays in integers: how each that computes is converted.

`biper.targets.c.fixed_point` says what the numbers mean, and `biper.targets.c.fixed_reference` computes with them. All
elements of a result have one exponent and one range.

    function of one value    a table of int16 with straight lines between its entries, see `LookupTable`
    function of two values   both at one exponent, the function in int32, then to the exponent of the result;
                             x * y as it is; x / y = trunc((x << 15) / y); a comparison gives 1 at exponent 14 or 0
    sum, mean                floor((sum << up) * multiplier / 2^16), then to the exponent of the result
    softmax                  exp(x - max) by a table at exponent 14, rounded quotients of these and their sum
    normalization            trunc((n x - S) 2^exponent / sqrt(n Q - S^2 + n^2 epsilon)), S and Q the sums of the n
                             numbers and of their squares, in 64 bits; without `center`, S is 0
    product of matrices      sums in 64 bits, rounded to the exponent of the result
    weighted sums            sums of x * weight in int32, rounded to the exponent of the result
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.operations.arithmetic import UNARY
from biper.runtime.program import Operation, Shape
from biper.targets.c.fixed_point import INT16, INT32, FixedOperation, LookupTable
from biper.targets.c.ranges import LEAST, Range, floor_log2

Array = NDArray[Any]

ONE = 14
"""The exponent of comparisons, and of the results of a softmax."""

QUOTIENT_BITS = 15
"""By which power of 2 a dividend is multiplied."""

_MOST_CELLS = 1 << 10
_STEEPEST = 1 / 64  # of the largest result: what a table may be off
_SMALLEST_WEIGHT = 11.1  # exp(-11.1) rounds to 0 at exponent 14
_TOO_MANY = "{source}: {count:,} elements are combined; C in integers alone takes up to {most:,}; write C in float32"


@dataclass(frozen=True)
class Converted:
    """What one operation becomes: the step without its exponent, the ends of its result, and limits of the exponent.

    Attributes:
        step: the operation.
        low, high: the ends of its result.
        finest: the largest exponent that the result may have.
        sums: the exponent of the integers before they are moved to that of the result; None if they are not moved.
    """

    step: FixedOperation
    low: float
    high: float
    finest: int
    sums: int | None = None


def computes(op: Operation) -> bool:
    """Whether an operation on arrays computes; the others move elements."""
    if op.operation == "sample":
        return op.attributes["function"] == "sum" and ("weight" in op.tensors or len(op.tensors["index"]) > 1)
    return op.operation in _CONVERSIONS


def convert(
    op: Operation, inputs: Sequence[Range], shapes: Sequence[Shape], seen: float | None
) -> tuple[FixedOperation, Range]:
    """Convert one operation that `computes`.

    Args:
        op: the operation.
        inputs: the ranges of its inputs, all of scale 1.
        shapes: the shapes of its inputs.
        seen: the largest magnitude of its result on images; None where none were run.

    Returns:
        The operation in integers, and the range of its result, with one element.

    Raises:
        ExportError: its results cannot be computed in integers.
    """
    ends = [(float(x.low.min()), float(x.high.max()), x.exponent) for x in inputs]
    found = _CONVERSIONS[op.operation](op, ends, shapes, seen)
    most = max(-found.low, found.high, LEAST)
    if seen is not None:
        most = min(most, 2 * max(seen, LEAST))
    exponent = min(floor_log2((INT16 - 1) / most), found.finest)
    reach = (INT16 + 1) * 2.0**-exponent
    low, high = (np.array([min(max(end, -reach), reach)]) for end in (found.low, found.high))
    step = replace(found.step, exponent=exponent, down=0 if found.sums is None else exponent - found.sums)
    if op.operation == "unary":
        step = replace(step, table=_table_of(op, ends[0], exponent))
    return step, Range(low, high, exponent)


_End = tuple[float, float, int]  # the least and the largest number of a value, and its exponent


def _unary(op: Operation, ends: Sequence[_End], _shapes: Sequence[Shape], _seen: float | None) -> Converted:
    results = _function_of(op, np.linspace(*ends[0][:2], 1 << 12))
    return Converted(FixedOperation(op), float(results.min()), float(results.max()), 28)


def _function_of(op: Operation, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The function of an operation, with the nearest number where it is not defined."""
    names, function = UNARY[op.attributes["function"]]
    with np.errstate(all="ignore"):
        y = np.asarray(function(x, *(np.float32(op.attributes[name]) for name in names)), np.float64)
    usable = np.flatnonzero(np.isfinite(y) & (np.abs(y) < 1e30))
    if not len(usable):
        raise ExportError(f"{op.source}: the function {op.attributes['function']} is not defined for any of its inputs")
    nearest = np.clip(np.searchsorted(usable, np.arange(len(y))), 0, len(usable) - 1)
    return np.asarray(y[usable[nearest]])


def _table_of(op: Operation, ends: _End, exponent: int) -> LookupTable:
    """The smallest table that is off by a few units; or else the largest, if it is not off by too much."""
    low, high = (int(np.clip(round(end * 2.0 ** ends[2]), -INT16 - 1, INT16)) for end in ends[:2])
    x = np.arange(low, high + 1)
    exact = np.clip(_function_of(op, x * 2.0 ** -ends[2]) * 2.0**exponent, -INT16 - 1, INT16)
    largest = max(float(np.abs(exact).max()), 1.0)
    cell = 15
    while True:
        first, cells = low >> cell << cell, (high - (low >> cell << cell) >> cell) + 1
        corners = (first + (np.arange(cells + 1) << cell)).astype(np.float64)
        values = _function_of(op, corners * 2.0 ** -ends[2]) * 2.0**exponent
        table = LookupTable(np.rint(np.clip(values, -INT16 - 1, INT16)).astype(np.int16), first, low, high, cell)
        off = float(np.abs(table(x) - exact).max())
        if off <= 2:
            return table
        if cells * 2 > _MOST_CELLS or cell == 0:
            break
        cell -= 1
    if off > _STEEPEST * largest:
        why = f", because a table of {cells + 1:,} numbers is off by {off / largest:.0%} of the largest result"
        raise _refused(op, f"the function {op.attributes['function']}", why)
    return table


def _binary(op: Operation, ends: Sequence[_End], _shapes: Sequence[Shape], seen: float | None) -> Converted:
    function = op.attributes["function"]
    (a, b, left), (c, d, right) = ends
    step = FixedOperation(op, up=(0, 0))
    if function == "multiply":
        products = (a * c, a * d, b * c, b * d)
        return Converted(step, min(products), max(products), left + right, left + right)
    if function == "divide":
        return _quotient(op, ends, seen)
    if function == "power":
        raise ExportError(
            f"{op.source}: powers of two values cannot be written as C in integers alone; write C in float32"
        )
    common = min(max(left, right), min(left, right) + 14)  # no shift is beyond int32, and neither is a sum of two
    step = replace(step, up=(common - left, common - right))
    if function in ("add", "subtract"):
        low, high = (a + c, b + d) if function == "add" else (a - d, b - c)
        return Converted(step, low, high, common, common)
    if function in ("maximum", "minimum"):
        either = max if function == "maximum" else min
        return Converted(step, either(a, c), either(b, d), common, common)
    return Converted(step, 0, 1, ONE, ONE)


def _quotient(op: Operation, ends: Sequence[_End], seen: float | None) -> Converted:
    (a, b, left), (c, d, right) = ends
    exponent = left + QUOTIENT_BITS - right
    step = FixedOperation(op, up=(QUOTIENT_BITS, 0))
    if c <= 0 <= d and seen is None:
        raise _refused(op, "a quotient whose divisor may be 0, where no images say how large it becomes,")
    if c <= 0 <= d:
        return Converted(step, -2 * max(seen or 0, LEAST), 2 * max(seen or 0, LEAST), exponent, exponent)
    quotients = (a / c, a / d, b / c, b / d)
    return Converted(step, min(quotients), max(quotients), exponent, exponent)


def _select(op: Operation, ends: Sequence[_End], _shapes: Sequence[Shape], _seen: float | None) -> Converted:
    _, (a, b, yes), (c, d, no) = ends
    common = min(yes, no)
    return Converted(FixedOperation(op, up=(0, common - yes, common - no)), min(a, c), max(b, d), common, common)


def _reduce(op: Operation, ends: Sequence[_End], shapes: Sequence[Shape], _seen: float | None) -> Converted:
    low, high, exponent = ends[0]
    function, count = op.attributes["function"], reduced_count(op, shapes[0])
    if function in ("max", "min"):
        return Converted(FixedOperation(op), low, high, exponent, exponent)
    if function == "product":
        raise ExportError(
            f"{op.source}: products over axes cannot be written as C in integers alone; write C in float32"
        )
    _require_count(op, count, INT32 >> 16)
    up = floor_log2(INT32 / (count << 15))
    factor = 1 / count if function == "mean" else 1.0
    bits = 14 - floor_log2(factor)
    step = FixedOperation(op, up=(up,), multiplier=np.array([min(round(factor * 2.0**bits), INT16)], np.int16))
    total = 1 if function == "mean" else count
    sums = exponent + up + bits - 16
    return Converted(step, low * total, high * total, sums, sums)


def _softmax(op: Operation, ends: Sequence[_End], shapes: Sequence[Shape], _seen: float | None) -> Converted:
    if op.attributes["log"]:
        raise _refused(op, "log_softmax")
    _require_count(op, shapes[0][op.attributes["axis"]], INT16)
    exponent = ends[0][2]
    cell = max(exponent - 5, 0)
    low = -min(math.ceil(_SMALLEST_WEIGHT * 2.0**exponent), 2 * INT16 + 1)
    first = low >> cell << cell
    corners = first + (np.arange((-first >> cell) + 2) << cell)
    weights = np.rint(np.exp(np.minimum(corners, 0) * 2.0**-exponent) * (1 << ONE)).astype(np.int16)
    return Converted(FixedOperation(op, table=LookupTable(weights, first, low, 0, cell)), 0, 1, ONE, ONE)


def _normalize(op: Operation, ends: Sequence[_End], shapes: Sequence[Shape], _seen: float | None) -> Converted:
    count, exponent = reduced_count(op, shapes[0]), ends[0][2]
    _require_count(op, count, INT16)
    up = 0
    while op.attributes["epsilon"] * count**2 * 4.0 ** (exponent + up) > 2.0**60:
        up -= 1
    epsilon = round(op.attributes["epsilon"] * count**2 * 4.0 ** (exponent + up))
    most = math.sqrt(count)
    return Converted(FixedOperation(op, up=(up,), epsilon=epsilon), -most, most, ONE)


def _matmul(op: Operation, ends: Sequence[_End], shapes: Sequence[Shape], _seen: float | None) -> Converted:
    (a, b, left), (c, d, right) = ends
    products = [shapes[0][-1] * product for product in (a * c, a * d, b * c, b * d)]
    exponent = left + right
    return Converted(FixedOperation(op), min(products), max(products), exponent, exponent)


def _sample(op: Operation, ends: Sequence[_End], _shapes: Sequence[Shape], _seen: float | None) -> Converted:
    low, high, exponent = ends[0]
    real = op.tensors.get("weight", np.ones(op.tensors["index"].shape, np.float32)).astype(np.float64)
    plus, minus = np.maximum(real, 0).sum(0), np.minimum(real, 0).sum(0)
    most = max(float((plus - minus).max()), LEAST)
    _require_count(op, len(real), 1 << 14)
    # Sums stay below half of int32, whose other half is for the rounding of the weights and of the result.
    bits = min(floor_log2((1 << 15) / most), floor_log2(INT16 / max(float(np.abs(real).max()), LEAST)), 14)
    weight = np.rint(real * 2.0**bits)
    ends_of = float((plus * low + minus * high).min()), float((plus * high + minus * low).max())
    step = FixedOperation(op, weight=weight.astype(np.int16))
    return Converted(step, *ends_of, exponent + bits, exponent + bits)


def _refused(op: Operation, what: str, why: str = "") -> ExportError:
    return ExportError(f"{op.source}: {what} cannot be written as C in integers alone{why}; write C in float32")


def reduced_count(op: Operation, shape: Shape) -> int:
    """How many elements of an input an operation over axes combines."""
    return math.prod(shape[axis] for axis in op.attributes["axes"])


def _require_count(op: Operation, count: int, most: int) -> None:
    if count > most:
        raise ExportError(_TOO_MANY.format(source=op.source, count=count, most=most))


_Conversion = Callable[[Operation, Sequence[_End], Sequence[Shape], "float | None"], Converted]

_CONVERSIONS: dict[str, _Conversion] = {
    "unary": _unary,
    "binary": _binary,
    "select": _select,
    "reduce": _reduce,
    "softmax": _softmax,
    "normalize": _normalize,
    "matmul": _matmul,
    "sample": _sample,
}
