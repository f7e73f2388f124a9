"""Handlers of operators that give a tensor another shape, or put its axes in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from biper.lowering.graph import Shape
from biper.lowering.torch_nodes import arguments_of, operator_name, sizes_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in


def _reshape(tracer: Tracer, node: torch.fx.Node) -> Value:
    return reshaped(tracer, tracer.value(node.args[0]), sizes_of(node))


def reshaped(tracer: Tracer, value: Value, shape: Shape) -> Value:
    """A value in another shape, in the form that needs the least work."""
    if value.shape == shape:
        return value
    image, target = shape_in("image", value.shape), shape_in("image", shape)
    if "image" in value.names and image is not None and target is not None:
        name = value.names["image"]
        if image == target:
            return Value.image(shape, name)
        if target[1:] == (1, 1):
            return Value.image(shape, tracer.emit("flatten", [name], target))
        if image[0] == target[0]:  # the pixels of each channel stay together
            return Value.image(shape, _converted(tracer, name, target))
    rows, others = shape_in("rows", value.shape), shape_in("rows", shape)
    if "rows" in value.names and rows is not None and others is not None and rows[0] == others[0]:
        return Value.rows(shape, value.names["rows"])
    return Value.array(shape, _converted(tracer, tracer.array(value), shape))


def _converted(tracer: Tracer, name: str, shape: Shape) -> str:
    return tracer.emit("reshape", [name], shape, attributes={"shape": list(shape)})


def permuted(tracer: Tracer, value: Value, order: list[int]) -> Value:
    """A value with its axes in another order; moving the channels of an image to the end and back takes no work."""
    rank = len(order)
    shape = tuple(value.shape[axis] for axis in order)
    kept = [axis for axis in range(rank) if value.shape[axis] != 1]
    if [axis for axis in order if value.shape[axis] != 1] == kept:  # only axes of size 1 move
        return reshaped(tracer, value, shape)
    if rank >= 3 and shape[0] == 1:
        if order == [0, *range(2, rank), 1] and "image" in value.names:
            target = shape_in("rows", shape)
            assert target is not None
            name = value.names["image"]
            made = shape_in("image", value.shape)
            return Value.rows(shape, name if made == target else _converted(tracer, name, target))
        if order == [0, rank - 1, *range(1, rank - 1)] and "rows" in value.names and rank <= 4:
            target = shape_in("image", shape)
            assert target is not None
            name = value.names["rows"]
            made = shape_in("rows", value.shape)
            return Value.image(shape, name if made == target else _converted(tracer, name, target))
    return Value.array(shape, tracer.emit("permute", [tracer.array(value)], shape, attributes={"order": order}))


def _permute(tracer: Tracer, node: torch.fx.Node) -> Value:
    value = tracer.value(node.args[0])
    rank = len(value.shape)
    match operator_name(node):
        case "permute":
            order = [axis % rank for axis in _list(node.args[1])]
        case "t" | "numpy_T":
            order = list(range(rank))[::-1]
        case _:
            first, second = (axis % rank for axis in arguments_of(node)[1:3])
            order = list(range(rank))
            order[first], order[second] = second, first
    return permuted(tracer, value, order)


def _list(argument: Any) -> list[int]:
    return list(argument)


def _expand(tracer: Tracer, node: torch.fx.Node) -> Value:
    return expanded(tracer, tracer.value(node.args[0]), sizes_of(node))


def expanded(tracer: Tracer, value: Value, shape: Shape) -> Value:
    """A value whose axes of size 1 are repeated, and which has new leading axes."""
    if value.shape == shape:
        return value
    name = tracer.emit("expand", [tracer.array(value)], shape, attributes={"shape": list(shape)})
    return Value.array(shape, name)


def _repeat(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``repeat``: each axis gets a new axis in front of it, which is expanded."""
    value = tracer.value(node.args[0])
    counts = _list(node.args[1])
    sizes = (1,) * (len(counts) - len(value.shape)) + value.shape
    apart = [part for size in sizes for part in (1, size)]
    repeated = [part for count, size in zip(counts, sizes, strict=True) for part in (count, size)]
    value = expanded(tracer, reshaped(tracer, value, tuple(apart)), tuple(repeated))
    return reshaped(tracer, value, sizes_of(node))


def _pixel_shuffle(tracer: Tracer, node: torch.fx.Node) -> Value:
    """(..., C r r, H, W) to (..., C, H r, W r)."""
    value = tracer.value(node.args[0])
    (*lead, channels, height, width), factor = value.shape, arguments_of(node)[1]
    apart = (*lead, channels // factor**2, factor, factor, height, width)
    at = len(lead)
    order = [*range(at), at, at + 3, at + 1, at + 4, at + 2]
    return reshaped(tracer, permuted(tracer, reshaped(tracer, value, apart), order), sizes_of(node))


def _pixel_unshuffle(tracer: Tracer, node: torch.fx.Node) -> Value:
    """(..., C, H r, W r) to (..., C r r, H, W)."""
    value = tracer.value(node.args[0])
    (*lead, channels, height, width), factor = value.shape, arguments_of(node)[1]
    apart = (*lead, channels, height // factor, factor, width // factor, factor)
    at = len(lead)
    order = [*range(at), at, at + 2, at + 4, at + 1, at + 3]
    return reshaped(tracer, permuted(tracer, reshaped(tracer, value, apart), order), sizes_of(node))


def _channel_shuffle(tracer: Tracer, node: torch.fx.Node) -> Value:
    value = tracer.value(node.args[0])
    groups = arguments_of(node)[1]
    count, channels, *rest = value.shape
    apart = reshaped(tracer, value, (count, groups, channels // groups, *rest))
    turned = permuted(tracer, apart, [0, 2, 1, *range(3, len(apart.shape))])
    return reshaped(tracer, turned, value.shape)


def _identity(tracer: Tracer, node: torch.fx.Node) -> Value:
    """An operator that changes nothing in evaluation mode: its value is its input's."""
    return tracer.value(node.args[0])


def _first_of_two(tracer: Tracer, node: torch.fx.Node) -> Result:
    """``native_dropout`` in evaluation mode: its first result is its input."""
    return [tracer.value(node.args[0]), None]


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "_unsafe_view", "unsqueeze", "squeeze", "view_copy"), _reshape
    ),
    **dict.fromkeys(("permute", "transpose", "t", "numpy_T"), _permute),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _expand),
    "repeat": _repeat,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "native_dropout": _first_of_two,
    **dict.fromkeys(
        (
            "clone", "detach", "dropout", "feature_dropout", "contiguous", "alias", "lift_fresh_copy",
        ),
        _identity,
    ),
}  # fmt: skip
