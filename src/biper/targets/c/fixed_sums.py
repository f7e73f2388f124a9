"""The integer sums of operations: their range, their unit, and the largest that they can be on any image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.quantize import int8_weight
from biper.runtime.program import Operation, Program, Shape
from biper.targets.c.fixed_point import (
    INT16,
    INT32,
    PIXEL_CONVOLUTION,
    PIXELS,
    SIGN_OFFSET,
    WIDE,
    FixedOperation,
    window_of,
)
from biper.targets.c.prepared import MOST_EXACT_WEIGHTS, midpoint_values
from biper.targets.c.ranges import LEAST, MIDPOINT_SCALE, DifferentScalesError, Range, Sums, floor_log2

Array = NDArray[Any]


class SumsOf:
    """Finds the sums of operations, and remembers the range of every real value that was made so far.

    Args:
        program: a program whose input was prepared.
        midpoints: whether clipped values may be stored as midpoints.
        value_bits: the bits that values are stored in.
    """

    def __init__(self, program: Program, *, midpoints: bool, value_bits: int) -> None:
        self.program, self.value_bits = program, value_bits
        self.shapes: dict[str, Shape] = program.shapes
        self.ranges: dict[str, Range] = {}
        self.midpoints = midpoint_values(program) if midpoints else frozenset[str]()
        real = [op for op in program.operations if op.operation == "convolution"]
        weights = sum(op.tensors["weight"].size for op in real if op.tensors["weight"].dtype != np.uint8)
        self.wide_weights = weights <= MOST_EXACT_WEIGHTS

    def largest_of(self, name: str) -> int:
        """The largest integer that a real value may be, for its readers: products and sums of it fit into int32."""
        if self.value_bits == 16:
            return INT16
        largest = WIDE
        for op in self.program.operations:
            if name in op.inputs and op.operation == "convolution":
                largest = min(largest, INT16)
            elif name in op.inputs and op.operation == "pool" and op.attributes["kind"] == "average":
                largest = min(largest, INT32 // (2 * self.divisor(op)))
        return largest

    def sums(self, op: Operation) -> Sums:
        """The sums of an operation before its epilogue."""
        ones = np.ones(op.shape[0])
        if op.operation == PIXELS:
            return Sums(FixedOperation(op), 0 * ones, 255 * ones, ones, 255)
        if op.operation == "binary_convolution":
            inside = self.shapes[op.inputs[0]][0] // op.attributes["groups"]
            terms = inside * math.prod(op.tensors["weight"].shape[1:3])
            return Sums(FixedOperation(op), -terms * ones, terms * ones, ones, terms)
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
            raise DifferentScalesError
        largest = max(x.largest for x in inputs)
        return Sums(FixedOperation(op), low, high, unit, largest, exponents, zero=inputs[0].zero)

    def copied(self, op: Operation, name: str) -> tuple[Array, Array, Array]:
        """The range and the unit of an input whose values are the sums themselves, by channel of the result."""
        x = self.ranges[name]
        low, high = x.low, x.high
        if op.operation == "pad_channels":
            low, high = (np.pad(side, (op.attributes["before"], op.attributes["after"])) for side in (low, high))
        if op.operation == "flatten":
            low, high = (np.repeat(side, math.prod(self.shapes[name][1:])) for side in (low, high))
        return low, high, np.full(len(low), x.unit)

    def convolution(self, op: Operation, x: Range) -> Sums:
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
        return Sums(
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

    def pixel_convolution(self, op: Operation) -> Sums:
        """The sums of a convolution of pixels, with everything that is multiplied in its weights, at one exponent."""
        mean, std = (np.array(each, np.float64).reshape(-1, 1, 1) for each in (self.program.mean, self.program.std))
        real = op.real_weight(len(mean)).astype(np.float64)
        if "multiplier" in op.tensors:
            real = real * op.tensors["multiplier"].astype(np.float64).reshape(-1, 1, 1, 1)
        scale = MIDPOINT_SCALE if op.real in self.midpoints else 1.0
        weight, tap_offset = real / (255 * std) / scale, -(real * (mean / std)).sum(1) / scale
        offset = op.tensors.get("offset", np.zeros(1, np.float32)).astype(np.float64)
        ends = [tap_offset + each(weight * 255, 0).sum(1) for each in (np.minimum, np.maximum)]
        low, high = np.minimum(ends[0], 0).sum((1, 2)), np.maximum(ends[1], 0).sum((1, 2))
        most = np.maximum(-low, high) + np.maximum(offset, 0) - np.minimum(offset, 0)
        slope = op.tensors.get("slope", np.ones(1, np.float32)).astype(np.float64)
        signs = np.abs(op.tensors.get(SIGN_OFFSET, np.zeros(1, np.float32))).astype(np.float64)
        most = most * np.maximum(np.abs(slope), 1)
        most = most + np.minimum(signs, most)
        exponent = floor_log2((INT32 - (1 << 18)) / max(float(most.max()), LEAST))
        tensors = {key: value for key, value in op.tensors.items() if key != "multiplier"}
        whole = [np.rint(each * 2.0**exponent).astype(np.int32) for each in (weight, tap_offset)]
        step = FixedOperation(replace(op, tensors=tensors), weight=whole[0], tap_offset=whole[1])
        unit = np.full(len(real), scale * 2.0**-exponent)
        return Sums(step, low * scale, high * scale, unit, INT32, exact=exponent)

    def average(self, op: Operation, x: Range) -> Sums:
        """The sums of an average pool: a factor multiplies those of cut windows, so that one divisor fits all."""
        counts = [self.counts(op, axis) for axis in (0, 1)]
        common = [math.lcm(*map(int, axis)) for axis in counts]
        whole = self.divisor(op)
        if max(common) > INT16 or whole * x.largest > INT32:
            raise ExportError(f"{op.source}: integer sums of windows of {op.attributes['kernel']} overflow 32 bits")
        factors = None
        if any(len(set(map(int, axis))) > 1 for axis in counts):
            factors = (common[0] // counts[0]).astype(np.int16), (common[1] // counts[1]).astype(np.int16)
        unit = np.full(op.shape[0], x.unit / whole)
        low, high = np.minimum(x.low, 0), np.maximum(x.high, 0)
        return Sums(FixedOperation(op, factors=factors), low, high, unit, whole * x.largest, zero=whole * x.zero)

    def divisor(self, op: Operation) -> int:
        """By what the sums of an average pool are divided, those of cut windows after a factor."""
        return math.prod(math.lcm(*map(int, self.counts(op, axis))) for axis in (0, 1))

    def counts(self, op: Operation, axis: int) -> Array:
        """By how many rows (axis 0) or columns (axis 1) the sum of each window is divided."""
        extent, padding = self.shapes[op.inputs[0]][1 + axis], op.attributes["padding"][axis]
        if op.attributes["count_padding"]:
            starts = np.arange(op.shape[1 + axis]) * op.attributes["stride"][axis] - padding
            counts: Array = np.minimum(starts + op.attributes["kernel"][axis], extent + padding) - starts
            return counts
        windows = [window_of(op, axis, at, extent) for at in range(op.shape[1 + axis])]
        return np.array([window.stop - window.start for window in windows])


def _magnitudes(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """The sum of the magnitudes of each output channel's weights."""
    return np.asarray(np.abs(weight.astype(np.int64)).sum((1, 2, 3)), np.int64)
