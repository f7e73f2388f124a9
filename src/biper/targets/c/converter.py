"""Converts the operations of a prepared program to integers, one after the other.

It finds the exponent of every value and the integer factors of every operation. Interval arithmetic follows the range
of every channel through the program, so that no integer can overflow for any image. `biper.targets.c.fixed_point` says
what the numbers mean.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Operation, Program
from biper.targets.c.fixed_arrays import computes, convert
from biper.targets.c.fixed_point import (
    DIRECT_DOWN,
    FROM_PIXELS,
    IMAGE,
    INT16,
    INT32,
    LARGEST,
    PIXEL_CONVOLUTION,
    SIGN_OFFSET,
    WIDE,
    FixedOperation,
    FixedProgram,
)
from biper.targets.c.fixed_sums import SumsOf
from biper.targets.c.prepared import clips_evenly
from biper.targets.c.ranges import (
    LARGEST_TERM,
    LEAST,
    MIDPOINT_SCALE,
    DifferentScalesError,
    Range,
    Sums,
    floor_log2,
    is_power_of_2,
)

Array = NDArray[Any]

_LARGEST_NUMBER = 8.0
"""The magnitude that normalized numbers are taken to stay below where none were seen: 8 standard deviations."""


class Converter(SumsOf):
    """Converts operations in order, and remembers the range of every real value.

    Args:
        program: a program whose input was prepared.
        seen: the largest magnitude that real values had on images, by name.
        midpoints: whether clipped values may be stored as midpoints.
        value_bits: the bits that real values are stored in.
        finest: the largest exponent that values of 32 bits may have.
    """

    def __init__(
        self, program: Program, seen: dict[str, float], *, midpoints: bool, value_bits: int = 16, finest: int = 28
    ) -> None:
        super().__init__(program, midpoints=midpoints, value_bits=value_bits)
        self.seen, self.finest = seen, finest

    def converted(self) -> FixedProgram:
        """The program in integers."""
        if IMAGE in self.program.inputs:
            self.input(IMAGE, self.program.input_shape[0])
        steps = tuple(replace(self.fixed(op), value_bits=self.value_bits) for op in self.program.operations)
        return FixedProgram(self.program, steps, self.exponents, self.value_bits)

    @property
    def exponents(self) -> dict[str, int]:
        """The exponents of the values that were made so far, by name."""
        return {name: found.exponent for name, found in self.ranges.items()}

    def input(self, name: str, channels: int) -> None:
        """Take the numbers of an input to be at most twice as large as those that were seen."""
        most = max(2 * self.seen.get(name, _LARGEST_NUMBER / 2), LEAST)
        ends = np.full(channels, most)
        self.ranges[name] = Range(-ends, ends, floor_log2((INT16 - 1) / most))

    def fixed(self, op: Operation) -> FixedOperation:
        """Convert one operation; the range of its result is remembered."""
        if op.operation not in FROM_PIXELS and not TABLE[op.operation].on_images:
            return self.array(op)
        return FixedOperation(op) if "threshold" in op.tensors else self.epilogue(self.sums(op))

    def array(self, op: Operation) -> FixedOperation:
        """Convert an operation on arrays: all elements of a result have one range."""
        if self.value_bits != 16:
            raise ExportError(
                f"{op.source}: {op.operation} is an operation on arrays, whose values have 16 bits in integers: leave "
                "value_bits at 16"
            )
        inputs = [self.ranges[name] for name in op.inputs]
        if any(x.scale != 1 for x in inputs):
            raise DifferentScalesError
        channels = op.shape[0] if len(op.shape) == 3 else 1
        if computes(op):
            step, made = convert(op, inputs, [self.shapes[name] for name in op.inputs], self.seen.get(op.real or ""))
            ends = np.repeat(made.low, channels), np.repeat(made.high, channels)
            self.ranges[op.real or ""] = replace(made, low=ends[0], high=ends[1])
            return step
        if op.operation == "constant":
            real = op.tensors["value"].astype(np.float64)
            low, high = float(real.min()), float(real.max())
            exponent = floor_log2((INT16 - 1) / max(-low, high, LEAST))
            op = replace(op, tensors={"value": np.rint(real * 2.0**exponent).astype(np.int16)})
        else:
            low, high = min(float(x.low.min()) for x in inputs), max(float(x.high.max()) for x in inputs)
            exponent = min(x.exponent for x in inputs)
        if op.operation == "pad":
            value = float(op.attributes["value"])
            low, high = min(low, value), max(high, value)
            exponent = min(exponent, floor_log2((INT16 - 1) / max(abs(value), LEAST)))
            op = replace(op, attributes={**op.attributes, "value": round(value * 2.0**exponent)})
        self.ranges[op.real or ""] = Range(np.full(channels, low), np.full(channels, high), exponent)
        return FixedOperation(op, exponent, up=tuple(exponent - x.exponent for x in inputs))

    def epilogue(self, sums: Sums) -> FixedOperation:
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
        shift = (sums.zero if zero == 0 else 0.0) * factor + (
            0.0 if residual is None else residual.zero * residual.unit
        )
        if np.any(shift):
            tensors = {**tensors, "offset": offset + shift}
            offset = offset + shift
        factor, offset = factor / scale, offset / scale
        largest = max(float(np.abs(factor).max()), 1e-30)
        top = max(largest * sums.limit, float((np.abs(ends).max(0) + np.abs(offset)).max()), LEAST)
        if residual is not None:
            low, high = low + residual.low, high + residual.high
            top = max(top, residual.largest * 2.0**-residual.exponent)
        steepest = max(float(np.abs(slope).max()), 1e-30)
        e = floor_log2(LARGEST_TERM / 2 / (top * max(steepest, 1)))
        if sums.exact is not None:
            e = sums.exact
        direct = op.operation == "binary_convolution" and top * 2.0**e * 2 > sums.limit << 14
        if direct:
            if op.real is not None:
                e = min(e, self.result_exponent(op, *_activated(op, low, high)) + self.down(op))
            multiplier = np.rint(factor * 2.0**e).astype(np.int32)
            step = replace(step, multiplier=multiplier, direct=True)
        elif moves and op.operation == "pool" and "activation" not in op.attributes and is_power_of_2(factor):
            e = 1 - math.frexp(float(factor[0]))[1]  # the sums are the results, at an exponent of their own
        elif sums.exact is None and sums.exponents and "multiplier" not in tensors:
            step = replace(step, up=tuple(e - exponent for exponent in sums.exponents))
        elif sums.exact is None:
            headroom = floor_log2(INT32 / sums.limit)
            e = min(e, floor_log2(INT16 / largest) + headroom - 16)
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
            case "prelu":
                bits, kind = (16, np.int16) if self.value_bits == 16 else (32, np.int32)
                by = max(0, -floor_log2(np.iinfo(kind).max / (steepest * 2.0**bits)))
                step = replace(step, slope=np.rint(slope * 2.0 ** (bits - by)).astype(kind), slope_up=by)
                bent = [np.where(side < 0, side * slope, side) for side in (low, high)]
                low, high = np.minimum(np.minimum(*bent), 0), np.maximum(np.maximum(*bent), 0)
        low, high = _activated(op, low, high)
        if SIGN_OFFSET in tensors:
            whole = np.floor(tensors[SIGN_OFFSET].astype(np.float64) / scale * 2.0**e)  # y >= -s is y >= -floor(s)
            reach = np.maximum(np.abs(low), np.abs(high)) / scale * 2.0**e * (1 + 2.0**-14) + 64
            most = np.minimum(reach, LARGEST_TERM)  # an offset beyond the range gives the same signs as one at its end
            step = replace(step, signs=np.clip(whole, -most, most).astype(np.int32))
        if op.real is None:
            return self.without_clip(step)
        if sums.zero and zero:
            zero = 0.5
        return _rounded_by_offset(self.without_clip(self.stored(step, e, low, high, scale, zero)))

    def scale(self, sums: Sums, residual: Range | None) -> float:
        """The scale of an operation's real result, with which its epilogue computes."""
        op = sums.step.op
        moved = bool(sums.exponents) and "multiplier" not in op.tensors
        given = {residual.scale} if residual is not None else set()
        given |= {self.ranges[op.inputs[0]].scale} if moved else set()
        if len(given) > 1:
            raise DifferentScalesError
        if given:
            return given.pop()
        if op.operation == "pool" and "multiplier" not in op.tensors:
            return self.ranges[op.inputs[0]].scale
        return MIDPOINT_SCALE if op.real in self.midpoints else 1.0

    def without_clip(self, step: FixedOperation) -> FixedOperation:
        """Leave out a clip that changes no bit and whose ends are those to which results are saturated."""
        op = step.op
        if op.attributes.get("activation") != "clip":
            return step
        ends = [float(op.attributes[key]) * 2.0**step.exponent for key in ("low", "high")]
        end = step.largest + 1
        if not ends[0] < 0 < ends[1] or (op.real is not None and ends != [-end, end]):
            return step
        attributes = {key: value for key, value in op.attributes.items() if key not in ("activation", "low", "high")}
        return replace(step, op=replace(op, attributes=attributes))

    def most(self, op: Operation, low: Array, high: Array) -> float:
        """The largest magnitude that the real result of an operation is expected to have."""
        most = max(float(np.maximum(np.abs(low), np.abs(high)).max()), LEAST)
        if op.real not in self.seen or self.largest_of(op.real) not in LARGEST.values():  # which nothing saturates to
            return most
        return min(most, 2 * max(self.seen[op.real], LEAST))

    def down(self, op: Operation) -> int:
        """By which power of 2 a sum of signs, times its multiplier, is divided to become the real result."""
        kept = self.value_bits == 32 and self.largest_of(op.real or "") == INT16  # signs need more than what is kept
        return DIRECT_DOWN[16 if kept else self.value_bits]

    def result_exponent(self, op: Operation, low: Array, high: Array) -> int:
        """The exponent of the real result of an operation; the end of an even clip is that of int16, or a unit less."""
        most, largest = self.most(op, low, high), self.largest_of(op.real or "")
        exponent = floor_log2((largest - 1) / most) + int(clips_evenly(op) and math.frexp(most)[0] == 0.5)
        return exponent if self.value_bits == 16 else min(exponent, self.finest)

    def stored(
        self, step: FixedOperation, e: int, low: Array, high: Array, scale: float, zero: float
    ) -> FixedOperation:
        """Choose the exponent of the real result of an operation, and remember the range."""
        name, most = step.op.real or "", self.most(step.op, low, high)
        exponent = self.result_exponent(step.op, low, high)
        if clips_evenly(step.op) and math.frexp(most)[0] == 0.5 and name in self.midpoints and scale != 1:
            zero, step = 0.5, replace(step, floor=True)
        if self.value_bits == 32:
            exponent = min(exponent, e - int(step.op.operation == PIXEL_CONVOLUTION))
        if zero and not step.floor:  # moved or averaged midpoints: the integers have the range of those before
            exponent = self.ranges[step.op.inputs[0]].exponent
        if scale != 1 and name in self.program.results.values():
            raise DifferentScalesError
        largest = self.largest_of(name)
        step = replace(step, largest=largest if largest in LARGEST.values() else WIDE)
        reach = (largest + 1) * 2.0**-exponent
        low, high = np.clip(low, -reach, reach), np.clip(high, -reach, reach)
        self.ranges[name] = Range(low, high, exponent, scale, zero, largest)
        return replace(step, exponent=exponent, down=exponent - e)


def _activated(op: Operation, low: Array, high: Array) -> tuple[Array, Array]:
    """The range of numbers after a clip or a relu."""
    match op.attributes.get("activation"):
        case "clip":
            clipped = float(op.attributes["low"]), float(op.attributes["high"])
            return np.clip(low, *clipped), np.clip(high, *clipped)
        case "relu":
            return np.maximum(low, 0), np.maximum(high, 0)
    return low, high


def _rounded_by_offset(step: FixedOperation) -> FixedOperation:
    """Round sums of signs by their offset, where no bits are made of them: one addition less, the same integers."""
    op = step.op
    if not step.direct or step.floor or step.down >= 0 or op.bits is not None or "activation" in op.attributes:
        return step
    offset = np.zeros(op.shape[0], np.int32) if step.offset is None else step.offset
    return replace(step, offset=offset + np.int32(1 << (-step.down - 1)), floor=True)
