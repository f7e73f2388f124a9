"""The full-precision twin of a program: the same layers with float32 weights, in the form that float engines like best.

Every binary convolution becomes a float32 one, its -1 and +1 times the multiplier folded into weight and bias; what
was binarized or clipped goes through relu instead. So a layer is a convolution with a bias, at times an addition, and
a relu: what engines fuse into one. It is not the program's function; its work is that of a float network's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program
from biper.targets.real_layers import folded


def float_twin(program: Program) -> Program:
    """The twin, a program of real operations: no bits, no thresholds, float32 weights without multipliers."""
    names = {op.bits: op.real or op.bits for op in program.operations if op.bits is not None}
    shapes = program.shapes
    operations = []
    for op in program.operations:
        inputs = tuple(names.get(name, name) for name in op.inputs)
        twin = replace(_in_float32(op, shapes[op.inputs[0]][0]), inputs=inputs, real=op.real or op.bits, bits=None)
        if op.bits is not None or op.attributes.get("activation") == "clip":
            attributes = _without(twin.attributes, "low", "high") | {"activation": "relu"}
            twin = replace(twin, attributes=attributes, tensors=_without(twin.tensors, "slope"))
        operations.append(twin)
    return replace(program, operations=tuple(_bare_pools(operations)))


def with_float_layers(program: Program) -> Program:
    """The program with float32 for int8: convolutions multiply by the same weights, their inputs are not rounded."""
    if not any("input_factor" in op.attributes for op in program.operations):
        return program
    operations = (
        _in_float32(op, program.shapes[op.inputs[0]][0]) if "input_factor" in op.attributes else op
        for op in program.operations
    )
    return replace(program, operations=tuple(operations))


def _in_float32(op: Operation, channels: int) -> Operation:
    """A convolution of any kind as one with float32 weights that have its multiplier in them; others as they are."""
    if "weight" not in op.tensors:
        return op
    weight, offset = folded(op, channels)
    rest = _without(op.tensors, "weight", "multiplier", "offset", "threshold", "flip")
    attributes = _without(op.attributes, "input_factor", "input_zero")
    tensors = {"weight": weight, "offset": offset} | rest
    return replace(op, operation="convolution", attributes=attributes, tensors=tensors)


def _bare_pools(operations: list[Operation]) -> list[Operation]:
    """Pooling with nothing after it, where it can be: its affine and relu go into the convolution beside it.

    What follows a max pool goes into the convolution before it (max-pooling commutes with increasing functions: a
    twin's multiplier is made positive there), the affine of an average pool into the convolution after it.
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
    """A convolution and the max pool after it, with the pool's affine and relu in the convolution."""
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
    """A convolution and the average pool before it, with the pool's affine in the convolution."""
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


def _without(entries: Any, *names: str) -> dict[str, Any]:
    return {name: entries[name] for name in entries if name not in names}
