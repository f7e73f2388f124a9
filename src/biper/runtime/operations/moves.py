"""Operations on arrays that move elements: other shapes and orders of axes, parts, paddings, sampling by an index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from biper.runtime.checks import MAX_ELEMENTS, Checker
from biper.runtime.operations.spec import Array, Attributes, Checked, OperationSpec, Tensors
from biper.runtime.program import Operation, Shape

MAX_RANK = 8
"""The most dimensions of a value."""


def checked_shape(check: Checker, value: Any) -> Shape:
    """A list of up to ``MAX_RANK`` sizes, each at least 1."""
    count = len(value) if isinstance(value, list) else -1
    check.require(0 <= count <= MAX_RANK, f"has shape {value!r:.100}")
    return tuple(check.integers(value, "shape", count, 1, MAX_ELEMENTS))


def _constant_rule(check: Checker, _inputs: list[Shape], _attributes: Attributes, tensors: Tensors) -> Checked:
    value = tensors.get("value")
    check.require(value is not None and value.dtype == np.float32, "has no value of type float32")
    assert value is not None
    check.require(value.ndim <= MAX_RANK, f"has a value of {value.ndim} dimensions")
    return Checked(value.shape, set(), {"value"})


def _reshape_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    shape = checked_shape(check, attributes.get("shape"))
    check.require(math.prod(shape) == math.prod(inputs[0]), f"changes the shape {inputs[0]} to {shape}")
    return Checked(shape, {"shape"}, set())


def _permute_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    rank = len(inputs[0])
    order = check.integers(attributes.get("order"), "order", rank, 0, max(rank - 1, 0))
    check.require(sorted(order) == list(range(rank)), f"has order {order}")
    return Checked(tuple(inputs[0][axis] for axis in order), {"order"}, set())


def _slice_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    (shape,) = inputs
    lists = [
        check.integers(attributes.get(name), name, len(shape), low, MAX_ELEMENTS)
        for name, low in (("starts", 0), ("sizes", 1), ("steps", 1))
    ]
    for size, start, count, step in zip(shape, *lists, strict=True):
        check.require(start + (count - 1) * step < size, f"reads beyond a value of shape {shape}")
    return Checked(tuple(lists[1]), {"starts", "sizes", "steps"}, set())


def _slice(op: Operation, inputs: list[Array]) -> Array:
    lists = (op.attributes[name] for name in ("starts", "sizes", "steps"))
    ranges = tuple(slice(start, start + (size - 1) * step + 1, step) for start, size, step in zip(*lists, strict=True))
    return inputs[0][ranges]


def _expand_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    shape = checked_shape(check, attributes.get("shape"))
    padded = (1,) * (len(shape) - len(inputs[0])) + inputs[0]
    fits = len(padded) == len(shape) and all(old in (1, new) for old, new in zip(padded, shape, strict=False))
    check.require(fits, f"expands the shape {inputs[0]} to {shape}")
    return Checked(shape, {"shape"}, set())


def _join_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    (axis,) = check.integers([attributes.get("axis")], "axis", 1, 0, len(inputs[0]) - 1)
    others = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    if len(others) != 1 or len({len(shape) for shape in inputs}) != 1:
        check.require(False, f"joins values of shapes {inputs}")
    total = sum(shape[axis] for shape in inputs)
    return Checked((*inputs[0][:axis], total, *inputs[0][axis + 1 :]), {"axis"}, set())


def _pad_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    (shape,) = inputs
    low, high, interior = (
        check.integers(attributes.get(name), name, len(shape), least, MAX_ELEMENTS)
        for name, least in (("low", -MAX_ELEMENTS), ("high", -MAX_ELEMENTS), ("interior", 0))
    )
    check.numbers([attributes.get("value")], "value", 1)
    sizes = [n + (n - 1) * i + a + b for n, a, b, i in zip(shape, low, high, interior, strict=True)]
    check.require(all(size >= 1 for size in sizes), f"pads the shape {shape} to {tuple(sizes)}")
    # What is removed on one side must be there, and not be what is added on the other side.
    kept = [size - max(a, 0) - max(b, 0) for size, a, b in zip(sizes, low, high, strict=True)]
    check.require(all(size >= 1 for size in kept), f"removes all of the shape {shape} by {low} and {high}")
    return Checked(tuple(sizes), {"low", "high", "interior", "value"}, set())


def _pad(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    lists = [op.attributes[name] for name in ("low", "high", "interior")]
    spread = np.full([n + (n - 1) * i for n, i in zip(x.shape, lists[2], strict=True)], op.attributes["value"], x.dtype)
    spread[tuple(slice(None, None, i + 1) for i in lists[2])] = x
    ends = list(zip(spread.shape, op.shape, lists[0], lists[1], strict=True))
    result = np.full(op.shape, op.attributes["value"], x.dtype)
    inside = tuple(slice(max(low, 0), size - max(high, 0)) for _, size, low, high in ends)
    result[inside] = spread[tuple(slice(max(-low, 0), size - max(-high, 0)) for size, _, low, high in ends)]
    return result


def _sample_rule(check: Checker, inputs: list[Shape], attributes: Attributes, tensors: Tensors) -> Checked:
    (shape,) = inputs
    (axis,) = check.integers([attributes.get("axis")], "axis", 1, 0, len(shape) - 1)
    function = attributes.get("function")
    check.require(function in ("sum", "max"), f"has unknown function {function!r}")
    index = tensors.get("index")
    check.require(index is not None and index.ndim == 2 and index.dtype == np.int32, "has no index of int32 (T, L)")
    assert index is not None
    check.require(index.size > 0 and index.min() >= 0 and index.max() < shape[axis], f"reads beyond shape {shape}")
    if "weight" in tensors:
        check.require(function == "sum", "has weights of a maximum")
        check.tensor(tensors, "weight", index.shape, "float32")
    names = {"index", "weight"} & set(tensors)
    return Checked((*shape[:axis], index.shape[1], *shape[axis + 1 :]), {"axis", "function"}, names)


def _sample(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    axis, index, weight = op.attributes["axis"], op.tensors["index"], op.tensors.get("weight")
    column = (-1,) + (1,) * (x.ndim - 1 - axis)
    result: Array | None = None
    for tap, places in enumerate(index):
        part = np.take(x, places, axis)
        if weight is not None:
            part = part * weight[tap].reshape(column)
        if result is None:
            result = part
        else:
            result = np.maximum(result, part) if op.attributes["function"] == "max" else result + part
    assert result is not None
    return result


OPERATIONS = (
    OperationSpec(
        "constant",
        "A value that is the same for every image.",
        (),
        _constant_rule,
        lambda op, _inputs: op.tensors["value"],
        inputs=(0, 0),
    ),
    OperationSpec(
        "reshape",
        "The same elements, in row-major order, in another shape.",
        ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"),
        _reshape_rule,
        lambda op, inputs: inputs[0].reshape(op.attributes["shape"]),
    ),
    OperationSpec(
        "permute",
        "The same elements with the axes in another order.",
        ("permute", "transpose", "t", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        _permute_rule,
        lambda op, inputs: inputs[0].transpose(op.attributes["order"]),
    ),
    OperationSpec(
        "slice",
        "A part of a value: along each axis a start, a number of elements and a step.",
        ("slice", "select", "split", "chunk", "unbind", "narrow"),
        _slice_rule,
        _slice,
    ),
    OperationSpec(
        "expand",
        "Repeats axes of size 1, as broadcasting does.",
        ("expand", "repeat", "broadcast_to"),
        _expand_rule,
        lambda op, inputs: np.broadcast_to(inputs[0], op.attributes["shape"]),
    ),
    OperationSpec(
        "join",
        "Concatenates two or more values along any axis.",
        ("cat", "stack"),
        _join_rule,
        lambda op, inputs: np.concatenate(inputs, op.attributes["axis"]),
        inputs=(2, 1 << 16),
    ),
    OperationSpec(
        "pad",
        "Adds a constant before, after and between the elements of each axis; a negative number removes elements.",
        ("constant_pad_nd", "pad", "conv_transpose1d", "conv_transpose2d"),
        _pad_rule,
        _pad,
    ),
    OperationSpec(
        "sample",
        "Along one axis, the weighted sum, or the largest, of the elements that an index names.",
        (
            "upsample_nearest", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad", "replication_pad",
            "circular padding", "roll", "flip", "index_select", "adaptive_avg_pool", "adaptive_max_pool",
            "max_pool with dilation", "avg_pool with divisor_override",
        ),
        _sample_rule,
        _sample,
        work=lambda _inputs, _shape, _attributes, tensors: 8 * len(tensors["index"]),
    ),
)  # fmt: skip
