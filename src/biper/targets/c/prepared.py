"""Programs made ready for C: their input in front, normalizations folded into weights, no flipped thresholds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Operation, Program, pack_weight, unpack_weight
from biper.targets.c.fixed_point import IMAGE, PIXEL_CONVOLUTION, PIXELS, SIGN_OFFSET
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


def with_plain_thresholds(program: Program) -> Program:
    """The program in which signs of a value alone are those of ``±x + offset``, which integers compute exactly.

    ``m x + o >= 0`` is ``sign(m) x + o / |m| >= 0``. Channels that are multiplied by 0 stay as they are.
    """
    return replace(program, operations=tuple(map(_with_plain_threshold, program.operations)))


def _with_plain_threshold(op: Operation) -> Operation:
    multiplier = op.tensors.get("multiplier")
    if multiplier is None or op.operation != "elementwise" or op.real is not None or op.residual is not None:
        return op
    if "activation" in op.attributes or not multiplier.all():
        return op
    tensors = {**op.tensors, "multiplier": np.sign(multiplier), "offset": op.tensors["offset"] / np.abs(multiplier)}
    if (multiplier > 0).all():
        del tensors["multiplier"]
    return replace(op, tensors=tensors)


def with_joined_signs(program: Program) -> Program:
    """The program in which a convolution emits the signs of ``result + offset`` beside its real result.

    They are computed from the number that is rounded to the real result, so that no sign is lost by the rounding. The
    offset is the tensor `SIGN_OFFSET` of the convolution, which packed programs do not have.
    """
    made = {op.real: index for index, op in enumerate(program.operations) if op.operation in _EMIT_SIGNS}
    operations: list[Operation | None] = list(program.operations)
    for index, op in enumerate(program.operations):
        source = made.get(op.inputs[0]) if _are_signs_alone(op) else None
        maker = None if source is None else operations[source]
        if source is None or maker is None or maker.bits is not None or "threshold" in maker.tensors:
            continue
        offset = op.tensors.get("offset", np.zeros(op.shape[0], np.float32))
        operations[source] = replace(maker, bits=op.bits, tensors={**maker.tensors, SIGN_OFFSET: offset})
        operations[index] = None
    return replace(program, operations=tuple(op for op in operations if op is not None))


_EMIT_SIGNS = frozenset({"convolution", "binary_convolution", PIXEL_CONVOLUTION})


def _are_signs_alone(op: Operation) -> bool:
    """Whether an operation only takes the signs of a value, after it has added an offset."""
    plain = op.operation == "elementwise" and op.real is None and op.residual is None
    return plain and "activation" not in op.attributes and "multiplier" not in op.tensors


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
