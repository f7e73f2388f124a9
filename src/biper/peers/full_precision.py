"""The network of a program in full precision: the same layers with float32 weights, as float engines run them best.

Every binary convolution becomes a float32 convolution: its weights of -1 and +1 are multiplied by the multiplier, its
offset is the bias. A relu stands in place of every binarization and of every clip. A layer is then a convolution with
a bias, an addition where there is a residual, and a relu, which engines fuse into one. This network does not compute
the function of the program; it does the work of a float network of the same layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program, Shape
from biper.targets.real_layers import folded_weight


def full_precision(program: Program) -> Program:
    """The network in full precision, as a program without bits and thresholds, its weights float32 without multipliers.

    Args:
        program: a validated program.
    """
    names = {op.bits: op.real or op.bits for op in program.operations if op.bits is not None}
    shapes = program.shapes
    operations = []
    for op in program.operations:
        inputs = tuple(names.get(name, name) for name in op.inputs)
        layer = replace(_in_float32(op, shapes), inputs=inputs, real=op.real or op.bits, bits=None)
        if op.bits is not None or op.attributes.get("activation") == "clip":
            attributes = _without(layer.attributes, "low", "high") | {"activation": "relu"}
            layer = replace(layer, attributes=attributes, tensors=_without(layer.tensors, "slope"))
        operations.append(layer)
    return replace(program, operations=tuple(_bare_pools(operations)))


def with_float_layers(program: Program) -> Program:
    """The program with float32 layers in place of those in int8 and bfloat16: same weights, inputs not rounded."""
    if not any(map(_rounds_inputs, program.operations)):
        return program
    operations = (_in_float32(op, program.shapes) if _rounds_inputs(op) else op for op in program.operations)
    return replace(program, operations=tuple(operations))


def _rounds_inputs(op: Operation) -> bool:
    return op.operation == "convolution" and op.tensors["weight"].dtype in (np.int8, np.uint16)


def _in_float32(op: Operation, shapes: Mapping[str, Shape]) -> Operation:
    """A convolution with float32 weights that contain its multiplier; another operation stays as it is."""
    if op.operation not in ("convolution", "binary_convolution"):
        return op
    weight, offset = folded_weight(op, shapes[op.inputs[0]][0])
    rest = _without(op.tensors, "weight", "multiplier", "offset", "threshold", "flip")
    attributes = _without(op.attributes, "input_factor", "input_zero")
    tensors = {"weight": weight, "offset": offset} | rest
    return replace(op, operation="convolution", attributes=attributes, tensors=tensors)


def _bare_pools(operations: list[Operation]) -> list[Operation]:
    """Move the affine and the relu of pools into the convolutions beside them, where that is possible.

    Those of a max pool move into the convolution before it: max pooling commutes with increasing functions, and the
    multiplier is made positive for that. The affine of an average pool moves into the convolution after it.
    """
    found = list(operations)
    makers = {op.real: index for index, op in enumerate(found)}
    readers: dict[str | None, list[int]] = {}
    for index, op in enumerate(found):
        for name in {*op.inputs, op.residual}:
            readers.setdefault(name, []).append(index)
    for index, op in enumerate(found):
        if op.operation != "pool" or op.residual is not None:
            continue
        if op.attributes["kind"] == "max":
            other = makers.get(op.inputs[0]) if readers[op.inputs[0]] == [index] else None
            move: Callable[[Operation, Operation], tuple[Operation, Operation]] = _before
        else:
            other = readers[op.real][0] if len(readers.get(op.real, [])) == 1 else None
            move = _after
        if other is not None and found[other].operation == "convolution":
            found[other], found[index] = move(found[other], op)
    return found


def _before(convolution: Operation, pool: Operation) -> tuple[Operation, Operation]:
    """Both operations, with the affine and the relu of a max pool moved into the convolution before it."""
    if "offset" in pool.tensors and convolution.residual is None and "activation" not in convolution.attributes:
        multiplier, offset = _affine(pool)
        tensors = dict(convolution.tensors)
        tensors["weight"] = tensors["weight"] * np.abs(multiplier)[:, None, None, None]
        tensors["offset"] = tensors["offset"] * np.abs(multiplier) + offset
        convolution = replace(convolution, tensors=tensors)
        pool = replace(pool, tensors=_without(pool.tensors, "multiplier", "offset"))
    relu = pool.attributes.get("activation") == "relu" and "offset" not in pool.tensors
    if relu and convolution.attributes.get("activation", "relu") == "relu":
        convolution = replace(convolution, attributes={**convolution.attributes, "activation": "relu"})
        pool = replace(pool, attributes=_without(pool.attributes, "activation"))
    return convolution, pool


def _after(convolution: Operation, pool: Operation) -> tuple[Operation, Operation]:
    """Both operations, with the affine of an average pool moved into the convolution after it."""
    attributes = convolution.attributes
    if "offset" not in pool.tensors or "activation" in pool.attributes:
        return convolution, pool
    if any(attributes["padding"]) or attributes["groups"] != 1:
        return convolution, pool
    multiplier, offset = _affine(pool)
    tensors = dict(convolution.tensors)
    tensors["offset"] = tensors["offset"] + np.einsum("oiyx,i->o", tensors["weight"], offset)
    tensors["weight"] = tensors["weight"] * multiplier[None, :, None, None]
    pool = replace(pool, tensors=_without(pool.tensors, "multiplier", "offset"))
    return replace(convolution, tensors=tensors), pool


def _affine(op: Operation) -> tuple[NDArray[Any], NDArray[Any]]:
    offset = op.tensors["offset"]
    return op.tensors.get("multiplier", np.ones_like(offset)), offset


def _without(entries: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The entries whose names are not given."""
    return {name: entries[name] for name in entries if name not in names}
