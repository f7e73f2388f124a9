"""Handlers of operators that take parts of tensors, put tensors together, or pad them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from biper.lowering.graph import Shape
from biper.lowering.operators.elementwise import choice
from biper.lowering.operators.pooling import emit_pool
from biper.lowering.operators.sampling import axes_in, sampled
from biper.lowering.operators.shapes import permuted, reshaped
from biper.lowering.torch_nodes import arguments_of, operator_name, sizes_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in


def part(tracer: Tracer, value: Value, axis: int, start: int, size: int, step: int = 1) -> Value:
    """``size`` elements of a value from ``start`` along an axis; along the axes of an image in its image form."""
    if (start, size, step) == (0, value.shape[axis], 1):
        return value
    shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    form, axes = axes_in(value, axis)
    made, target = shape_in(form, value.shape), shape_in(form, shape)
    assert made is not None
    assert target is not None
    attributes = {"starts": [0] * len(made), "sizes": list(target), "steps": [1] * len(made)}
    attributes["starts"][axes], attributes["steps"][axes] = start, step
    name = tracer.emit("slice", [tracer.form(form, value)], target, attributes=attributes)
    return Value(shape, {form: name})


def _slice(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, axis, start, stop, step = arguments_of(node, None, 0, None, None, 1)
    value = tracer.value(x)
    axis %= len(value.shape)
    size = value.shape[axis]
    start, stop, step = slice(start, stop, step).indices(size)
    count = sizes_of(node)[axis]
    # Every n-th row or column of an image is a pool of single pixels with a stride, which the engine has since long.
    if len(value.shape) == 4 and axis >= 2 and start == 0 and step > 1 and "image" in value.names:
        return emit_pool(tracer, value, sizes_of(node), "max", 1, [step, 1] if axis == 2 else [1, step])
    return part(tracer, value, axis, start, count, step)


def _select(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, axis, index = arguments_of(node)
    value = tracer.value(x)
    axis %= len(value.shape)
    return reshaped(tracer, part(tracer, value, axis, index % value.shape[axis], 1), sizes_of(node))


def _split(tracer: Tracer, node: torch.fx.Node) -> Result:
    """``split``, ``chunk`` and ``unbind``, by the shapes of their results."""
    value = tracer.value(node.args[0])
    kind = operator_name(node)
    place = 1 if kind == "unbind" else 2
    axis = node.kwargs.get("dim", node.args[place] if len(node.args) > place else 0)
    assert isinstance(axis, int)
    axis %= len(value.shape)
    results: list[Value | None] = []
    start = 0
    for meta in node.meta["val"]:
        shape = tuple(int(size) for size in meta.shape)
        size = 1 if kind == "unbind" else shape[axis]
        piece = part(tracer, value, axis, start, size)
        results.append(reshaped(tracer, piece, shape))
        start += size
    return results


def _concatenate(tracer: Tracer, node: torch.fx.Node) -> Value:
    parts, axis = arguments_of(node, None, 0)
    axis = node.kwargs.get("dim", axis)
    values = [tracer.value(item) for item in parts]
    values = [value for value in values if 0 not in value.shape]
    return joined(tracer, values, axis % len(sizes_of(node)), sizes_of(node))


def joined(tracer: Tracer, values: Sequence[Value], axis: int, shape: Shape) -> Value:
    """Values put together along an axis; images by channel where all of them are."""
    if len(values) == 1:
        return values[0]
    made = shape_in("image", shape)
    if axis == 1 and made is not None and any("image" in value.names for value in values):
        return Value.image(shape, tracer.emit("concatenate", [tracer.image(value) for value in values], made))
    names = [tracer.array(value) for value in values]
    return Value.array(shape, tracer.emit("join", names, shape, attributes={"axis": axis}))


def _stack(tracer: Tracer, node: torch.fx.Node) -> Value:
    parts, axis = arguments_of(node, None, 0)
    axis = node.kwargs.get("dim", axis)
    shape = sizes_of(node)
    axis %= len(shape)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    values = [reshaped(tracer, tracer.value(item), single) for item in parts]
    return joined(tracer, values, axis, shape)


def _slice_scatter(tracer: Tracer, node: torch.fx.Node) -> Value:
    """A value with a slice of it replaced by another value."""
    x, source, axis, start, stop, step = arguments_of(node, None, None, 0, None, None, 1)
    value, other = tracer.value(x), tracer.value(source)
    axis %= len(value.shape)
    size = value.shape[axis]
    start, stop, step = slice(start, stop, step).indices(size)
    if step != 1:
        places = np.arange(size)
        places[start:stop:step] = size + np.arange(len(range(start, stop, step)))
        shape = (*value.shape[:axis], size + other.shape[axis], *value.shape[axis + 1 :])
        return sampled(tracer, joined(tracer, [value, other], axis, shape), axis, places[None])
    pieces = [other]
    if start > 0:
        pieces.insert(0, part(tracer, value, axis, 0, start))
    if stop < size:
        pieces.append(part(tracer, value, axis, stop, size - stop))
    return joined(tracer, pieces, axis, value.shape)


def _select_scatter(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, source, axis, index = arguments_of(node)
    value = tracer.value(x)
    axis %= len(value.shape)
    index %= value.shape[axis]
    other = reshaped(tracer, tracer.value(source), (*value.shape[:axis], 1, *value.shape[axis + 1 :]))
    pieces = [part(tracer, value, axis, 0, index)] if index else []
    pieces.append(other)
    if index + 1 < value.shape[axis]:
        pieces.append(part(tracer, value, axis, index + 1, value.shape[axis] - index - 1))
    return joined(tracer, pieces, axis, value.shape)


def padded(tracer: Tracer, value: Value, amounts: Sequence[int], number: float = 0.0) -> Value:
    """A value with constants around it; ``amounts`` are in torch's order, the last axis first, and may be negative."""
    rank = len(value.shape)
    low, high = [0] * rank, [0] * rank
    for index in range(len(amounts) // 2):
        low[rank - 1 - index], high[rank - 1 - index] = amounts[2 * index : 2 * index + 2]
    if not any(low) and not any(high):
        return value
    shape = tuple(size + a + b for size, a, b in zip(value.shape, low, high, strict=True))
    if not math.isfinite(number):  # the pads of packed files are finite, and their constants need not be
        sides = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
        inside = np.ones([size - a - b for size, (a, b) in zip(shape, sides, strict=True)], np.float32)
        mask = np.pad(inside, sides)
        return choice(tracer, [Value.array(shape, tracer.stored(mask)), padded(tracer, value, amounts), number], shape)
    only_channels = {axis for axis in range(rank) if low[axis] or high[axis]} == {1}
    if "image" in value.names and not low[0] and not high[0]:
        target = shape_in("image", shape)
        assert target is not None
        if only_channels and number == 0 and min(low[1], high[1]) >= 0:
            attributes: dict[str, Any] = {"before": low[1], "after": high[1]}
            return Value.image(shape, tracer.emit("pad_channels", [tracer.image(value)], target, attributes=attributes))
        places = {2: (1, 0, 0), 3: (1, 0, 2), 4: (1, 2, 3)}[rank]  # axis 0 is the batch, which is not padded
        ends = {name: [sides[axis] for axis in places] for name, sides in (("low", low), ("high", high))}
        attributes = {**ends, "interior": [0, 0, 0], "value": float(number)}
        return Value.image(shape, tracer.emit("pad", [tracer.image(value)], target, attributes=attributes))
    attributes = {"low": low, "high": high, "interior": [0] * rank, "value": float(number)}
    return Value.array(shape, tracer.emit("pad", [tracer.array(value)], shape, attributes=attributes))


def _pad(tracer: Tracer, node: torch.fx.Node) -> Value:
    """Padding by a constant, or by ``mode`` for the operator ``pad``."""
    x, amounts, *rest = arguments_of(node)
    mode: Any = node.kwargs.get("mode", next((item for item in rest if isinstance(item, str)), "constant"))
    number: Any = node.kwargs.get("value", next((item for item in rest if isinstance(item, int | float)), None))
    value = tracer.value(x)
    if mode == "constant":
        return padded(tracer, value, amounts, number or 0.0)
    return _padded_by(tracer, value, amounts, {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


def _padded_by(tracer: Tracer, value: Value, amounts: Sequence[int], mode: Any) -> Value:
    """A value padded by its own elements: ``mode`` is NumPy's ``reflect``, ``edge`` or ``wrap``."""
    for index in range(len(amounts) // 2):
        axis = len(value.shape) - 1 - index
        low, high = amounts[2 * index : 2 * index + 2]
        places = np.pad(np.arange(value.shape[axis]), (max(low, 0), max(high, 0)), mode=mode)
        places = places[max(-low, 0) : len(places) - max(-high, 0)]
        value = sampled(tracer, value, axis, places[None])
    return value


def _pad_by_name(tracer: Tracer, node: torch.fx.Node) -> Value:
    mode = "reflect" if "reflection" in operator_name(node) else "edge"
    return _padded_by(tracer, tracer.value(node.args[0]), arguments_of(node)[1], mode)


def _roll(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, shifts, axes = arguments_of(node, None, None, ())
    value = tracer.value(x)
    if not axes:
        shape = value.shape
        flat = reshaped(tracer, value, (int(np.prod(shape)),))
        places = np.roll(np.arange(flat.shape[0]), shifts[0] if isinstance(shifts, Sequence) else shifts)
        return reshaped(tracer, sampled(tracer, flat, 0, places[None]), shape)
    for shift, axis in zip(shifts, axes, strict=True):
        place = axis % len(value.shape)
        value = sampled(tracer, value, place, np.roll(np.arange(value.shape[place]), shift)[None])
    return value


def _flip(tracer: Tracer, node: torch.fx.Node) -> Value:
    value = tracer.value(node.args[0])
    for axis in arguments_of(node)[1]:
        place = axis % len(value.shape)
        value = sampled(tracer, value, place, np.arange(value.shape[place])[::-1][None])
    return value


def _unfold(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``x.unfold(axis, size, step)``: windows along an axis, whose elements become a new last axis."""
    x, axis, size, step = arguments_of(node)
    value = tracer.value(x)
    rank = len(value.shape)
    axis %= rank
    count = (value.shape[axis] - size) // step + 1
    places = (np.arange(count)[:, None] * step + np.arange(size)).reshape(1, -1)
    taken = sampled(tracer, value, axis, places)
    apart = reshaped(tracer, taken, (*value.shape[:axis], count, size, *value.shape[axis + 1 :]))
    return permuted(tracer, apart, [*range(axis + 1), *range(axis + 2, rank + 1), axis + 1])


HANDLERS: Mapping[str, Handler] = {
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind", "unsafe_split", "unsafe_chunk"), _split),
    "cat": _concatenate,
    "stack": _stack,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(
        (
            "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d",
            "replication_pad3d",
        ),
        _pad_by_name,
    ),
    "roll": _roll,
    "unfold": _unfold,
    "flip": _flip,
}  # fmt: skip
