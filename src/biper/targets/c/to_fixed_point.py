"""Converts a program to integers: finds the exponent of every value and the integer factors of every operation.

Interval arithmetic follows the range of every channel through the program, so that no integer can overflow for any
image. `biper.targets.c.fixed_point` says what the numbers mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.quantize import int8_weight
from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Operation, Program, Shape, pack_weight, unpack_weight
from biper.runtime.reference import run_reference
from biper.targets.c import INTEGER_OPERATIONS
from biper.targets.c.fixed_point import (
    FROM_PIXELS,
    IMAGE,
    INT16,
    INT32,
    PIXEL_CONVOLUTION,
    PIXELS,
    FixedOperation,
    FixedProgram,
    window_of,
)
from biper.targets.operations import require_operations, require_usable_numbers

Array = NDArray[Any]

_LARGEST_TERM = 1 << 30
"""The magnitude that a term of an epilogue stays below, so that the sum of two fits into int32."""

_LARGEST_NUMBER = 8.0
"""The magnitude that normalized numbers are taken to stay below where none were seen: 8 standard deviations."""

_MOST_EXACT_WEIGHTS = 1024
"""The most weights that a convolution of pixels has in int32, and all others together in int16; else they are int8."""

MIDPOINT_SCALE = 65536 / 65535
"""The scale with which -32768 + 1/2 and 32767 + 1/2 stand for the ends of a clip."""

_LEAST = 2.0**-14
"""The magnitude that every value is taken to reach, so that the exponent of a value that is always 0 is finite."""


def with_input(program: Program, numbers: bool | None = None) -> Program:
    """The program with what its C function takes in front.

    Args:
        program: a validated program.
        numbers: True for normalized numbers, which become a further input, ``"image"``; False for pixels, whose
            normalization becomes the first operation; None for pixels where `Program.is_of_pictures`.
    """
    if not program.is_of_pictures if numbers is None else numbers:
        return replace(program, inputs={IMAGE: program.input_shape, **program.inputs})
    std = np.array(program.std, np.float32)
    tensors = {"multiplier": 1 / (255 * std), "offset": -(np.array(program.mean, np.float32) / std)}
    first = Operation(PIXELS, "normalization", (), program.input_shape, real=IMAGE, tensors=tensors)
    return replace(program, operations=(first, *program.operations))


def with_folded_pixels(program: Program) -> Program:
    """The program without the normalization of pixels, if only small convolutions read the normalized image."""
    first = program.operations[0]
    readers = [op for op in program.operations if IMAGE in (*op.inputs, op.residual)]
    if first.operation != PIXELS or not all(map(_reads_pixels, readers)) or IMAGE in program.results.values():
        return program
    folded = (
        replace(op, operation=PIXEL_CONVOLUTION, inputs=()) if IMAGE in op.inputs else op
        for op in program.operations[1:]
    )
    return replace(program, operations=tuple(folded))


def _reads_pixels(op: Operation) -> bool:
    weight = op.tensors.get("weight")
    plain = op.operation == "convolution" and op.attributes["groups"] == 1 and op.residual is None
    plain = plain and "slope" not in op.tensors
    return plain and weight is not None and weight.dtype != np.uint8 and weight.size <= _MOST_EXACT_WEIGHTS


def without_flips(program: Program) -> Program:
    """The program without flipped thresholds: ``sum < t`` becomes ``-sum >= 1 - t``, with all weights inverted."""
    shapes = program.shapes
    operations = (_unflipped(op, shapes[op.inputs[0]][0]) if "flip" in op.tensors else op for op in program.operations)
    return replace(program, operations=tuple(operations))


def _unflipped(op: Operation, channels: int) -> Operation:
    flip = op.tensors["flip"].astype(bool)
    positive = unpack_weight(op.tensors["weight"], channels // op.attributes["groups"]) > 0
    threshold = op.tensors["threshold"].astype(np.int64)
    threshold = np.clip(np.where(flip, 1 - threshold, threshold), -_LARGEST_TERM, _LARGEST_TERM).astype(np.int32)
    weight = pack_weight(positive ^ flip[:, None, None, None])
    return replace(op, tensors={"weight": weight, "threshold": threshold, "flip": np.zeros_like(op.tensors["flip"])})


def to_fixed_point(
    program: Program, images: NDArray[np.float32] | None = None, *, numbers: bool | None = None
) -> FixedProgram:
    """Convert a program to integers.

    Args:
        program: a validated program, its float layers in any type.
        images: (N, C, H, W) normalized, on which the magnitudes of values are measured; None to use the largest that
            they can have for any image; normalized numbers are then taken to be at most 8 in magnitude.
        numbers: whether the input is normalized numbers; see `with_input`.

    Raises:
        ExportError: C has no operator for an operation, or a sum could overflow 32 bits.
    """
    require_operations(program, "C in integers alone", INTEGER_OPERATIONS)
    require_usable_numbers(program, infinity=False)
    if program.inputs:
        names = ", ".join(program.inputs)
        raise ExportError(f"the ranges of the inputs {names} are not known: write C in float32, not in integers alone")
    plain = without_flips(program)
    program = with_input(plain, numbers)
    seen = {} if images is None else run_reference(plain, images)
    program = with_folded_pixels(program)
    most = {name: float(np.abs(value).max()) for name, value in seen.items() if value.dtype != bool}
    for midpoints in (True, False):
        converter = _Converter(program, most, midpoints=midpoints)
        if IMAGE in program.inputs:
            converter.input(IMAGE, program.input_shape[0])
        try:
            return FixedProgram(program, tuple(map(converter.fixed, program.operations)), converter.exponents)
        except _DifferentScalesError:
            continue
    raise AssertionError("without midpoints all scales are 1")


class _DifferentScalesError(Exception):
    """Values of different scales meet where no multiplier can make them equal."""


def midpoint_values(program: Program) -> frozenset[str]:
    """Clipped values that may be stored as midpoints: only residual sums, average pools and zero channels read them."""
    readers: dict[str, list[Operation]] = {}
    for op in program.operations:
        for name in {*op.inputs, op.residual}:
            readers.setdefault(name or "", []).append(op)

    def may_be(name: str) -> bool:
        return name not in program.results.values() and all(may_read(op, name) for op in readers.get(name, ()))

    def may_read(op: Operation, name: str) -> bool:
        if op.residual == name:
            return name not in op.inputs and TABLE[op.operation].on_images
        pooled = op.operation == "pool" and op.attributes["kind"] == "average" and not any(op.attributes["padding"])
        if not (pooled or op.operation == "pad_channels") or op.bits is not None:
            return False
        return "multiplier" in op.tensors or may_be(op.real or "")

    return frozenset(
        op.real for op in program.operations if op.real is not None and _clips_evenly(op) and may_be(op.real)
    )


def _clips_evenly(op: Operation) -> bool:
    """Whether an operation clips at a power of 2 and its negative."""
    if op.attributes.get("activation") != "clip":
        return False
    low, high = float(op.attributes["low"]), float(op.attributes["high"])
    return -low == high and math.frexp(high)[0] == 0.5


@dataclass
class _Range:
    """The range of a real value: ``low`` and ``high`` by channel, and what its integers ``q`` stand for.

    They stand for ``(q + zero) * scale / 2^exponent``. Scale is 1 and zero is 0, but for clipped values of which the ends
    of int16 are to be the ends of the clip: `MIDPOINT_SCALE` and 1/2.
    """

    low: Array
    high: Array
    exponent: int
    scale: float = 1.0
    zero: float = 0.0

    @property
    def unit(self) -> float:
        """The real number that an integer of 1 stands for."""
        return float(self.scale * 2.0**-self.exponent)

    @property
    def largest(self) -> int:
        """The largest magnitude of its integers; rounding may take them up to 4 beyond the range."""
        most = float(np.maximum(np.abs(self.low), np.abs(self.high)).max())
        return min(math.ceil(most * 2.0**self.exponent) + 4, INT16 + 1)


@dataclass
class _Sums:
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


class _Converter:
    """Converts operations in order, and remembers the range of every real value."""

    def __init__(self, program: Program, seen: dict[str, float], *, midpoints: bool) -> None:
        self.program = program
        self.shapes: dict[str, Shape] = program.shapes
        self.seen = seen
        self.ranges: dict[str, _Range] = {}
        self.midpoints = midpoint_values(program) if midpoints else frozenset[str]()
        real = [op for op in program.operations if op.operation == "convolution"]
        weights = sum(op.tensors["weight"].size for op in real if op.tensors["weight"].dtype != np.uint8)
        self.wide_weights = weights <= _MOST_EXACT_WEIGHTS

    @property
    def exponents(self) -> dict[str, int]:
        """The exponents of the values that were made so far, by name."""
        return {name: found.exponent for name, found in self.ranges.items()}

    def input(self, name: str, channels: int) -> None:
        """Take the numbers of an input to be at most twice as large as those that were seen."""
        most = max(2 * self.seen.get(name, _LARGEST_NUMBER / 2), _LEAST)
        ends = np.full(channels, most)
        self.ranges[name] = _Range(-ends, ends, _floor_log2((INT16 - 1) / most))

    def fixed(self, op: Operation) -> FixedOperation:
        """Convert one operation; the range of its result is remembered."""
        if op.operation not in FROM_PIXELS and not TABLE[op.operation].on_images:
            return self.array(op)
        return FixedOperation(op) if "threshold" in op.tensors else self.epilogue(self.sums(op))

    def array(self, op: Operation) -> FixedOperation:
        """Convert an operation on arrays: all elements of a result have one range."""
        inputs = [self.ranges[name] for name in op.inputs]
        if any(x.scale != 1 for x in inputs):
            raise _DifferentScalesError
        sums = op.operation == "sample" and op.attributes["function"] != "max"
        if sums and ("weight" in op.tensors or len(op.tensors["index"]) > 1):
            raise ExportError(
                f"{op.source}: sums of elements that an index names, such as a bilinear resize, cannot be written as C "
                f"in integers alone; write C in float32, or change that module"
            )
        if op.operation == "constant":
            real = op.tensors["value"].astype(np.float64)
            low, high = float(real.min()), float(real.max())
            exponent = _floor_log2((INT16 - 1) / max(-low, high, _LEAST))
            op = replace(op, tensors={"value": np.rint(real * 2.0**exponent).astype(np.int16)})
        else:
            low, high = min(float(x.low.min()) for x in inputs), max(float(x.high.max()) for x in inputs)
            exponent = min(x.exponent for x in inputs)
        if op.operation == "pad":
            value = float(op.attributes["value"])
            low, high = min(low, value), max(high, value)
            exponent = min(exponent, _floor_log2((INT16 - 1) / max(abs(value), _LEAST)))
            op = replace(op, attributes={**op.attributes, "value": round(value * 2.0**exponent)})
        channels = op.shape[0] if len(op.shape) == 3 else 1
        self.ranges[op.real or ""] = _Range(np.full(channels, low), np.full(channels, high), exponent)
        return FixedOperation(op, exponent, up=tuple(exponent - x.exponent for x in inputs))

    def sums(self, op: Operation) -> _Sums:
        """The sums of an operation before its epilogue."""
        ones = np.ones(op.shape[0])
        if op.operation == PIXELS:
            return _Sums(FixedOperation(op), 0 * ones, 255 * ones, ones, 255)
        if op.operation == "binary_convolution":
            inside = self.shapes[op.inputs[0]][0] // op.attributes["groups"]
            terms = inside * math.prod(op.tensors["weight"].shape[1:3])
            return _Sums(FixedOperation(op), -terms * ones, terms * ones, ones, terms)
        if op.operation == PIXEL_CONVOLUTION:
            return self.pixel_convolution(op)
        inputs = [self.ranges[name] for name in op.inputs]
        if op.operation == "convolution":
            return self.convolution(op, inputs[0])
        if op.operation == "pool" and op.attributes["kind"] == "average":
            return self.average(op, inputs[0])
        parts = [self.copied(op, name) for name in op.inputs]
        low, high, unit = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        exponents = tuple(x.exponent for x in inputs)
        if len({(x.scale, x.zero) for x in inputs}) > 1:
            raise _DifferentScalesError
        largest = max(x.largest for x in inputs)
        return _Sums(FixedOperation(op), low, high, unit, largest, exponents, zero=inputs[0].zero)

    def copied(self, op: Operation, name: str) -> tuple[Array, Array, Array]:
        """The range and the unit of an input whose values are the sums themselves, by channel of the result."""
        x = self.ranges[name]
        low, high = x.low, x.high
        if op.operation == "pad_channels":
            low, high = (np.pad(side, (op.attributes["before"], op.attributes["after"])) for side in (low, high))
        if op.operation == "flatten":
            low, high = (np.repeat(side, math.prod(self.shapes[name][1:])) for side in (low, high))
        return low, high, np.full(len(low), x.unit)

    def convolution(self, op: Operation, x: _Range) -> _Sums:
        """The sums of a real convolution: its weights are int8, of fewer bits where a sum could overflow."""
        real = op.real_weight(self.shapes[op.inputs[0]][0]).astype(np.float64)
        weight, scale = real.astype(np.int8), np.ones(len(real))
        if op.tensors["weight"].dtype != np.uint8:
            weight, scale = self.wide_weight(real, x.largest) if self.wide_weights else int8_weight(real)
        for channel in np.flatnonzero(_magnitudes(weight) * x.largest > INT32):
            shrink = 0.99 * INT32 / (int(_magnitudes(weight)[channel]) * x.largest)
            if shrink < 1 / 64 or op.tensors["weight"].dtype == np.uint8:
                raise ExportError(f"{op.source}: integer sums of {real[0].size:,} products overflow 32 bits")
            weight[channel] = np.trunc(weight[channel] * shrink)
            scale[channel] /= shrink
        low, high = x.low, x.high
        if any(op.attributes["padding"]):  # any part of a sum may be missing at the border
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        inside, outside = real.shape[1], len(real) // op.attributes["groups"]
        read = (np.arange(len(real)) // outside * inside)[:, None] + np.arange(inside)
        used = weight * scale[:, None, None, None]
        plus, minus = np.maximum(used, 0).sum((2, 3)), np.minimum(used, 0).sum((2, 3))
        return _Sums(
            FixedOperation(op, weight=weight),
            (plus * low[read] + minus * high[read]).sum(1),
            (plus * high[read] + minus * low[read]).sum(1),
            scale * x.unit,
            max(int(_magnitudes(weight).max()) * x.largest, 1),
        )

    def wide_weight(self, real: Array, largest: int) -> tuple[Array, Array]:
        """Weights of up to 16 bits with which no sum overflows, and the real number of 1 for each output channel."""
        most = np.maximum(np.abs(real).max((1, 2, 3)), 1e-30)
        room = INT32 / largest - real[0].size  # of the magnitudes of a channel's weights, which rounding makes larger
        levels = np.clip(room * most / np.maximum(np.abs(real).sum((1, 2, 3)), 1e-30), 127, INT16)
        scale = most / levels
        return np.rint(real / scale.reshape(-1, 1, 1, 1)).astype(np.int16), scale

    def pixel_convolution(self, op: Operation) -> _Sums:
        """The sums of a convolution of pixels, with everything that is multiplied in its weights, at one exponent."""
        mean, std = (np.array(each, np.float64).reshape(-1, 1, 1) for each in (self.program.mean, self.program.std))
        real = op.real_weight(len(mean)).astype(np.float64)
        if "multiplier" in op.tensors:
            real = real * op.tensors["multiplier"].astype(np.float64).reshape(-1, 1, 1, 1)
        scale = MIDPOINT_SCALE if op.real in self.midpoints else 1.0
        weight, tap_offset = real / (255 * std) / scale, -(real * (mean / std)).sum(1) / scale
        offset = op.tensors.get("offset", np.zeros(1, np.float32)).astype(np.float64)
        most = np.abs(weight).sum((1, 2, 3)) * 255 + np.abs(tap_offset).sum((1, 2)) + np.abs(offset)
        exponent = _floor_log2(_LARGEST_TERM / max(float(most.max()), _LEAST))
        tensors = {key: value for key, value in op.tensors.items() if key != "multiplier"}
        weight, tap_offset = (np.rint(each * 2.0**exponent).astype(np.int32) for each in (weight, tap_offset))
        ends = np.minimum(real * (0 - mean) / std, real * (1 - mean) / std), np.maximum(
            real * (0 - mean) / std, real * (1 - mean) / std
        )
        low, high = np.minimum(ends[0], 0).sum((1, 2, 3)), np.maximum(ends[1], 0).sum((1, 2, 3))
        step = FixedOperation(replace(op, tensors=tensors), weight=weight, tap_offset=tap_offset)
        return _Sums(step, low, high, np.full(len(real), scale * 2.0**-exponent), _LARGEST_TERM, exact=exponent)

    def average(self, op: Operation, x: _Range) -> _Sums:
        """The sums of an average pool: a factor multiplies those of cut windows, so that one divisor fits all."""
        counts = [self.counts(op, axis) for axis in (0, 1)]
        common = [math.lcm(*map(int, axis)) for axis in counts]
        whole = math.prod(common)
        if max(common) > INT16 or whole * x.largest > INT32:
            raise ExportError(f"{op.source}: integer sums of windows of {op.attributes['kernel']} overflow 32 bits")
        factors = None
        if any(len(set(map(int, axis))) > 1 for axis in counts):
            factors = (common[0] // counts[0]).astype(np.int16), (common[1] // counts[1]).astype(np.int16)
        unit = np.full(op.shape[0], x.unit / whole)
        low, high = np.minimum(x.low, 0), np.maximum(x.high, 0)
        return _Sums(FixedOperation(op, factors=factors), low, high, unit, whole * x.largest, zero=whole * x.zero)

    def counts(self, op: Operation, axis: int) -> Array:
        """By how many rows (axis 0) or columns (axis 1) the sum of each window is divided."""
        extent, padding = self.shapes[op.inputs[0]][1 + axis], op.attributes["padding"][axis]
        if op.attributes["count_padding"]:
            starts = np.arange(op.shape[1 + axis]) * op.attributes["stride"][axis] - padding
            counts: Array = np.minimum(starts + op.attributes["kernel"][axis], extent + padding) - starts
            return counts
        windows = [window_of(op, axis, at, extent) for at in range(op.shape[1 + axis])]
        return np.array([window.stop - window.start for window in windows])

    def epilogue(self, sums: _Sums) -> FixedOperation:
        """Convert the epilogue of an operation; the range of its real result is remembered."""
        step, op, tensors = sums.step, sums.step.op, sums.step.op.tensors
        by_channel = tensors.get("multiplier", np.ones(1, np.float32)).astype(np.float64)
        offset = tensors.get("offset", np.zeros(1, np.float32)).astype(np.float64)
        slope = tensors.get("slope", np.ones(1, np.float32)).astype(np.float64)
        ends = np.stack([sums.low * by_channel, sums.high * by_channel])
        low, high = ends.min(0) + offset, ends.max(0) + offset
        residual = None if op.residual is None else self.ranges[op.residual]
        factor = sums.unit * by_channel
        scale = self.scale(sums, residual)
        moves = "multiplier" not in tensors and "offset" not in tensors and residual is None
        zero = sums.zero if moves and "activation" not in op.attributes and not np.ptp(factor) else 0.0
        shift = (sums.zero if zero == 0 else 0.0) * factor + (0.0 if residual is None else residual.zero * residual.unit)
        if np.any(shift):
            tensors = tensors | {"offset": (offset + shift)}
            offset = offset + shift
        factor, offset = factor / scale, offset / scale
        largest = max(float(np.abs(factor).max()), 1e-30)
        top = max(largest * sums.limit, float((np.abs(ends).max(0) + np.abs(offset)).max()), _LEAST)
        if residual is not None:
            low, high = low + residual.low, high + residual.high
            top = max(top, residual.largest * 2.0**-residual.exponent)
        steepest = max(float(np.abs(slope).max()), 1e-30)
        e = _floor_log2(_LARGEST_TERM / 2 / (top * max(steepest, 1)))
        if sums.exact is not None:
            e = min(e + 1, sums.exact)
        direct = op.operation == "binary_convolution" and "slope" not in tensors and top * 2.0**e * 2 > sums.limit << 14
        if direct:
            multiplier = np.rint(factor * 2.0**e).astype(np.int32)
            step = replace(step, multiplier=multiplier, direct=True)
        elif moves and op.operation == "pool" and "activation" not in op.attributes and _is_power_of_2(factor):
            e = 1 - math.frexp(float(factor[0]))[1]  # the sums are the results, at an exponent of their own
        elif sums.exact is not None:
            step = replace(step, up=(e - sums.exact,))
        elif sums.exponents and "multiplier" not in tensors:
            step = replace(step, up=tuple(e - exponent for exponent in sums.exponents))
        else:
            headroom = _floor_log2(INT32 / sums.limit)
            e = min(e, _floor_log2(INT16 / largest) + headroom - 16)
            multiplier = np.rint(factor * 2.0 ** (e + 16 - headroom)).astype(np.int16)
            step = replace(step, up=(headroom,) * max(len(op.inputs), 1), multiplier=multiplier)
        if "offset" in tensors:
            step = replace(step, offset=np.rint(offset * 2.0**e).astype(np.int32))
        if residual is not None:
            step = replace(step, residual_up=max(e - residual.exponent, -31))
        match op.attributes.get("activation"):
            case "clip":
                clipped = float(op.attributes["low"]), float(op.attributes["high"])
                ends_of = [int(np.clip(np.rint(end * 2.0**e), -INT32, INT32)) for end in clipped]
                step = replace(step, low=ends_of[0], high=ends_of[1])
                low, high = np.clip(low, *clipped), np.clip(high, *clipped)
            case "relu":
                low, high = np.maximum(low, 0), np.maximum(high, 0)
            case "prelu":
                by = max(0, -_floor_log2(INT16 / (steepest * 65536)))
                step = replace(step, slope=np.rint(slope * 2.0 ** (16 - by)).astype(np.int16), slope_up=by)
                bent = [np.where(side < 0, side * slope, side) for side in (low, high)]
                low, high = np.minimum(np.minimum(*bent), 0), np.maximum(np.maximum(*bent), 0)
        if op.real is None:
            return self.without_clip(step)
        if sums.zero and zero:
            zero = 0.5
        return self.without_clip(self.stored(step, e, low, high, scale, zero))

    def scale(self, sums: _Sums, residual: _Range | None) -> float:
        """The scale of an operation's real result, with which its epilogue computes."""
        op = sums.step.op
        moved = bool(sums.exponents) and "multiplier" not in op.tensors
        given = {residual.scale} if residual is not None else set()
        given |= {self.ranges[op.inputs[0]].scale} if moved else set()
        if len(given) > 1:
            raise _DifferentScalesError
        if given:
            return given.pop()
        if op.operation == "pool" and "multiplier" not in op.tensors:
            return self.ranges[op.inputs[0]].scale
        return MIDPOINT_SCALE if op.real in self.midpoints else 1.0

    def without_clip(self, step: FixedOperation) -> FixedOperation:
        """Leave out a clip that changes no bit and whose ends are those of int16, to which results are saturated."""
        op = step.op
        if op.attributes.get("activation") != "clip":
            return step
        ends = [float(op.attributes[key]) * 2.0**step.exponent for key in ("low", "high")]
        if not ends[0] < 0 < ends[1] or (op.real is not None and ends != [-INT16 - 1, INT16 + 1]):
            return step
        attributes = {key: value for key, value in op.attributes.items() if key not in ("activation", "low", "high")}
        return replace(step, op=replace(op, attributes=attributes))

    def stored(
        self, step: FixedOperation, e: int, low: Array, high: Array, scale: float, zero: float
    ) -> FixedOperation:
        """Choose the exponent of the real result of an operation, and remember the range."""
        name = step.op.real or ""
        most = max(float(np.maximum(np.abs(low), np.abs(high)).max()), _LEAST)
        if name in self.seen:
            most = min(most, 2 * max(self.seen[name], _LEAST))
        exponent = _floor_log2((INT16 - 1) / most)
        if _clips_evenly(step.op) and math.frexp(most)[0] == 0.5:
            exponent += 1  # the end of the clip is that of int16, or one unit less
            if name in self.midpoints and scale != 1:
                zero, step = 0.5, replace(step, floor=True)
        if zero and not step.floor:  # moved or averaged midpoints: the integers have the range of those before
            exponent = self.ranges[step.op.inputs[0]].exponent
        if scale != 1 and name in self.program.results.values():
            raise _DifferentScalesError
        reach = (INT16 + 1) * 2.0**-exponent
        low, high = np.clip(low, -reach, reach), np.clip(high, -reach, reach)
        self.ranges[name] = _Range(low, high, exponent, scale, zero)
        return replace(step, exponent=exponent, down=exponent - e)


def _magnitudes(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """The sum of the magnitudes of each output channel's weights."""
    return np.asarray(np.abs(weight.astype(np.int64)).sum((1, 2, 3)), np.int64)


def _is_power_of_2(factor: Array) -> bool:
    return bool((factor == factor[0]).all()) and math.frexp(float(factor[0]))[0] == 0.5


def _floor_log2(value: float) -> int:
    return math.frexp(value)[1] - 1
