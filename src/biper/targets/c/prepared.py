"""Programs made ready for C: their input in front, normalizations folded into weights, no flipped thresholds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Operation, Program, pack_weight, unpack_weight
from biper.targets.c.fixed_point import IMAGE, PIXEL_CONVOLUTION, PIXELS
from biper.targets.c.ranges import LARGEST_TERM

MOST_EXACT_WEIGHTS = 1024
"""The most weights that a convolution of pixels has in int32, and all others together in int16; else they are int8."""


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
    if (
        first.operation != PIXELS
        or not readers
        or not all(map(_reads_pixels, readers))
        or IMAGE in program.results.values()
    ):
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
    return plain and weight is not None and weight.dtype != np.uint8 and weight.size <= MOST_EXACT_WEIGHTS


def without_flips(program: Program) -> Program:
    """The program without flipped thresholds: ``sum < t`` becomes ``-sum >= 1 - t``, with all weights inverted."""
    shapes = program.shapes
    operations = (_unflipped(op, shapes[op.inputs[0]][0]) if "flip" in op.tensors else op for op in program.operations)
    return replace(program, operations=tuple(operations))


def _unflipped(op: Operation, channels: int) -> Operation:
    flip = op.tensors["flip"].astype(bool)
    positive = unpack_weight(op.tensors["weight"], channels // op.attributes["groups"]) > 0
    threshold = op.tensors["threshold"].astype(np.int64)
    threshold = np.clip(np.where(flip, 1 - threshold, threshold), -LARGEST_TERM, LARGEST_TERM).astype(np.int32)
    weight = pack_weight(positive ^ flip[:, None, None, None])
    return replace(op, tensors={"weight": weight, "threshold": threshold, "flip": np.zeros_like(op.tensors["flip"])})


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
        op.real for op in program.operations if op.real is not None and clips_evenly(op) and may_be(op.real)
    )


def clips_evenly(op: Operation) -> bool:
    """Whether an operation clips at a power of 2 and its negative."""
    if op.attributes.get("activation") != "clip":
        return False
    low, high = float(op.attributes["low"]), float(op.attributes["high"])
    return -low == high and math.frexp(high)[0] == 0.5
