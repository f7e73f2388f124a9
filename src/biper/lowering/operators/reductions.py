"""Handlers of sums, means, extremes and norms over axes, of softmax, and of cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from biper.errors import ExportError
from biper.lowering.operators.elementwise import along_axis, binary, choice, unary
from biper.lowering.operators.pooling import emit_pool
from biper.lowering.operators.sampling import axes_in, sampled
from biper.lowering.operators.shapes import reshaped
from biper.lowering.torch_nodes import arguments_of, keywords_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in

FUNCTIONS = {
    "all": "min", "amax": "max", "amin": "min", "any": "max", "max": "max", "mean": "mean", "min": "min",
    "prod": "product", "sum": "sum",
}  # fmt: skip
"""Torch operators, and the function of the operation ``reduce`` that each is."""


def reduced(tracer: Tracer, value: Value, function: str, axes: Sequence[int]) -> Value:
    """A value reduced over axes, which stay with size 1.

    A mean or a maximum over height and width, or over the length of a signal, is a pool of one window.
    """
    rank = len(value.shape)
    axes = sorted({axis % rank for axis in axes}) if axes else list(range(rank))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    spatial = axes == list(range(2, rank)) and "image" in value.names and rank > 2
    if spatial and function in ("mean", "max"):
        window = list(shape_in("image", value.shape) or ())[1:]
        return emit_pool(tracer, value, shape, "average" if function == "mean" else "max", window, window)
    places = [axes_in(value, axis) for axis in axes]
    forms = {form for form, _ in places}
    form, reduced_axes = (forms.pop(), sorted({place for _, place in places})) if len(forms) == 1 else ("array", axes)
    target = shape_in(form, shape)
    assert target is not None
    attributes = {"function": function, "axes": reduced_axes, "keep": True}
    return Value(shape, {form: tracer.emit("reduce", [tracer.form(form, value)], target, attributes=attributes)})


def _axes(argument: Any) -> list[int]:
    return [argument] if isinstance(argument, int) else list(argument or ())


def _reduce(tracer: Tracer, node: torch.fx.Node) -> Result:
    """A reduction. ``max`` of an axis also gives the places; ``max`` of two values is binary."""
    kind = operator_name(node)
    if kind in ("max", "min") and len(node.args) > 1 and isinstance(node.args[1], torch.fx.Node):
        return binary(tracer, f"{kind}imum", node.args[0], node.args[1], sizes_of(node))
    value = tracer.value(node.args[0])
    axes = _axes(node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ()))
    function = FUNCTIONS[kind]
    if kind in ("all", "any"):
        value = binary(tracer, "not_equal", value, 0.0, value.shape)
    result = reshaped(tracer, reduced(tracer, value, function, axes), sizes_of(node))
    if not isinstance(node.meta["val"], list | tuple):
        return result
    place = first_place(tracer, value, reduced(tracer, value, function, axes), axes[0])
    return [result, reshaped(tracer, place, sizes_of(node))]


def first_place(tracer: Tracer, value: Value, extreme: Value, axis: int) -> Value:
    """The first place along an axis where a value equals its extreme, as a number; the axis stays with size 1."""
    axis %= len(value.shape)
    count = value.shape[axis]
    here = binary(tracer, "equal", value, extreme, value.shape)
    numbers = along_axis(tracer, range(count), len(value.shape) - axis - 1)
    places = choice(tracer, [here, numbers, float(count)], value.shape)
    return reduced(tracer, places, "min", [axis])


def variance(tracer: Tracer, value: Value, axes: Sequence[int], correction: float) -> tuple[Value, Value]:
    """The variance over axes, divided by the number of elements less ``correction``, and the mean; axes stay."""
    mean = reduced(tracer, value, "mean", axes)
    centered = binary(tracer, "subtract", value, mean, value.shape)
    square = reduced(tracer, binary(tracer, "multiply", centered, centered, value.shape), "mean", axes)
    rank = len(value.shape)
    count = math.prod(value.shape[axis % rank] for axis in (axes or range(rank)))
    if correction:
        square = binary(tracer, "multiply", square, np.float32(count / max(count - correction, 1e-30)), square.shape)
    return square, mean


def _variance(tracer: Tracer, node: torch.fx.Node) -> Result:
    """``var``, ``std``, ``var_mean`` and ``std_mean``."""
    kind = operator_name(node)
    known = keywords_of(node)
    axes = known.get("dim")
    correction = known.get("correction", int(known.get("unbiased", True)))
    square, mean = variance(tracer, tracer.value(node.args[0]), _axes(axes), 1 if correction is None else correction)
    if kind.startswith("std"):
        square = unary(tracer, square, "sqrt")
    shape = sizes_of(node)
    result = reshaped(tracer, square, shape)
    return [result, reshaped(tracer, mean, shape)] if kind.endswith("_mean") else result


def _vector_norm(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``(sum |x|^p)^(1/p)``, or the largest or smallest magnitude."""
    _, order, axes = arguments_of(node, None, 2.0, ())[:3]
    return reshaped(tracer, vector_norm(tracer, tracer.value(node.args[0]), order, _axes(axes)), sizes_of(node))


def vector_norm(tracer: Tracer, value: Value, order: float, axes: Sequence[int]) -> Value:
    """``(sum |x|^p)^(1/p)`` over axes, which stay with size 1; the largest magnitude for infinity."""
    value = unary(tracer, value, "abs")
    if order in (math.inf, -math.inf):
        return reduced(tracer, value, "max" if order > 0 else "min", axes)
    if order == 0:
        value = binary(tracer, "not_equal", value, 0.0, value.shape)
    elif order == 2:
        value = binary(tracer, "multiply", value, value, value.shape)
    elif order != 1:
        value = unary(tracer, value, "power", exponent=order)
    total = reduced(tracer, value, "sum", axes)
    if order == 2:
        total = unary(tracer, total, "sqrt")
    elif order not in (0, 1):
        total = unary(tracer, total, "power", exponent=1 / order)
    return total


def _distances(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``cdist``: the norm of the difference of each row of one tensor and each row of another."""
    one, other, order = arguments_of(node)[:3]
    left, right, shape = tracer.value(one), tracer.value(other), sizes_of(node)
    size = left.shape[-1]
    differences = binary(
        tracer,
        "subtract",
        reshaped(tracer, left, (*left.shape[:-1], 1, size)),
        reshaped(tracer, right, (*right.shape[:-2], 1, right.shape[-2], size)),
        (*shape, size),
    )
    return reshaped(tracer, vector_norm(tracer, differences, order, [-1]), shape)


def softmax(tracer: Tracer, value: Value, axis: int, log: bool = False) -> Value:
    """Softmax along an axis, or its logarithm."""
    form, place = axes_in(value, axis % len(value.shape))
    target = shape_in(form, value.shape)
    assert target is not None
    attributes = {"axis": place, "log": log}
    name = tracer.emit("softmax", [tracer.form(form, value)], target, attributes=attributes)
    return Value(value.shape, {form: name})


def _softmax(tracer: Tracer, node: torch.fx.Node) -> Value:
    return softmax(tracer, tracer.value(node.args[0]), arguments_of(node)[1], "log" in operator_name(node))


def _logsumexp(tracer: Tracer, node: torch.fx.Node) -> Value:
    value, axes = tracer.value(node.args[0]), _axes(arguments_of(node)[1])
    largest = reduced(tracer, value, "max", axes)
    weights = unary(tracer, binary(tracer, "subtract", value, largest, value.shape), "exp")
    total = unary(tracer, reduced(tracer, weights, "sum", axes), "log")
    return reshaped(tracer, binary(tracer, "add", total, largest, largest.shape), sizes_of(node))


def _cumulative_sum(tracer: Tracer, node: torch.fx.Node) -> Value:
    value, axis = tracer.value(node.args[0]), arguments_of(node)[1]
    axis %= len(value.shape)
    size = value.shape[axis]
    if size > 1024:
        raise ExportError(f"{source_of(node)}: a cumulative sum of {size} elements is not supported; at most 1024 are")
    taps = np.broadcast_to(np.arange(size)[:, None], (size, size))
    return sampled(tracer, value, axis, taps, np.triu(np.ones((size, size), np.float32)))


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(FUNCTIONS, _reduce),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _variance),
    **dict.fromkeys(("linalg_vector_norm", "norm"), _vector_norm),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    "logsumexp": _logsumexp,
    "cumsum": _cumulative_sum,
    "_cdist_forward": _distances,
}
