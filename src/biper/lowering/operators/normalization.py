"""Handlers of batch, layer, group, instance and RMS norm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.operators.elementwise import affine, binary, per_channel
from biper.lowering.operators.sampling import axes_in
from biper.lowering.torch_nodes import arguments_of, operator_name, source_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in


def _batch_norm(tracer: Tracer, node: torch.fx.Node) -> Result:
    """Batch norm with statistics: an affine of each channel, ``(x - mean) / sqrt(var + eps) * weight + bias``."""
    x, weight, bias, mean, variance = arguments_of(node)[:5]
    epsilon = arguments_of(node)[-1]
    value = tracer.value(x)
    means, variances = tracer.constant(mean), tracer.constant(variance)
    if means is None or variances is None or not isinstance(epsilon, float):
        raise ExportError(f"{source_of(node)}: a batch norm without statistics is not supported; use an instance norm")
    scale = 1 / np.sqrt(variances.astype(np.float64) + epsilon)
    gamma, beta = tracer.constant(weight), tracer.constant(bias)
    multiplier = scale if gamma is None else scale * gamma
    offset = -means * multiplier + (0 if beta is None else beta)
    numbers = multiplier.astype(np.float32), offset.astype(np.float32)
    if shape_in("image", value.shape) is not None:
        return [affine(tracer, value, "image", *numbers), None, None]
    column = (-1,) + (1,) * (len(value.shape) - 2)
    for function, number in zip(("multiply", "add"), numbers, strict=True):
        constant = number.reshape(column)
        value = binary(tracer, function, value, Value.array(constant.shape, tracer.stored(constant)), value.shape)
    return [value, None, None]


def _no_statistics(tracer: Tracer, node: torch.fx.Node) -> Result:
    """Batch norm of one image without statistics, which is what an instance norm becomes."""
    x, weight, bias, _, _, epsilon = arguments_of(node)
    value = tracer.value(x)
    result = normalized(tracer, value, list(range(2, len(value.shape))), float(epsilon))
    column = (-1,) + (1,) * (len(value.shape) - 2)
    arrays = [tracer.constant(weight), tracer.constant(bias)]
    result = _scaled(tracer, result, *(None if array is None else array.reshape(column) for array in arrays))
    return [result, None, None]


def normalized(tracer: Tracer, value: Value, axes: list[int], epsilon: float, center: bool = True) -> Value:
    """``(x - mean) / sqrt(variance + epsilon)`` over axes, in the form that a value has."""
    if axes == [len(value.shape) - 1] and "image" not in value.names:
        form, places = "rows", [0]
    else:
        found = [axes_in(value, axis) for axis in axes]
        forms = {form for form, _ in found}
        form, places = (forms.pop(), [place for _, place in found]) if len(forms) == 1 else ("array", axes)
    shape = shape_in(form, value.shape)
    assert shape is not None
    attributes = {"axes": sorted(places), "epsilon": float(epsilon), "center": center}
    name = tracer.emit("normalize", [tracer.form(form, value)], shape, attributes=attributes)
    return Value(value.shape, {form: name})


def _scaled(tracer: Tracer, value: Value, weight: NDArray[Any] | None, bias: NDArray[Any] | None) -> Value:
    """``value * weight + bias`` with constants that broadcast over it; an affine where they are one a channel."""
    if weight is None and bias is None:
        return value
    form = next((name for name in ("image", "rows") if name in value.names), None)
    if form is not None:
        shape = shape_in(form, value.shape)
        assert shape is not None
        ones, zeros = np.ones(shape[0], np.float32), np.zeros(shape[0], np.float32)
        multiplier = ones if weight is None else per_channel(weight, form, value.shape)
        offset = zeros if bias is None else per_channel(bias, form, value.shape)
        if multiplier is not None and offset is not None:
            return affine(tracer, value, form, multiplier, offset)
    for function, number in (("multiply", weight), ("add", bias)):
        if number is not None:
            value = binary(tracer, function, value, Value.array(number.shape, tracer.stored(number)), value.shape)
    return value


def _layer_norm(tracer: Tracer, node: torch.fx.Node) -> Result:
    x, normalized_shape, weight, bias, epsilon = arguments_of(node, None, None, None, None, 1e-5)[:5]
    value = tracer.value(x)
    rank = len(value.shape)
    axes = list(range(rank - len(normalized_shape), rank))
    result = normalized(tracer, value, axes, epsilon)
    result = _scaled(tracer, result, tracer.constant(weight), tracer.constant(bias))
    return [result, None, None] if operator_name(node).startswith("native") else result


def _rms_norm(tracer: Tracer, node: torch.fx.Node) -> Result:
    x, normalized_shape, weight, epsilon = arguments_of(node, None, None, None, None)
    value = tracer.value(x)
    rank = len(value.shape)
    axes = list(range(rank - len(normalized_shape), rank))
    smallest = float(torch.finfo(torch.float32).eps)
    result = normalized(tracer, value, axes, smallest if epsilon is None else epsilon, center=False)
    result = _scaled(tracer, result, tracer.constant(weight), None)
    return [result, None] if operator_name(node).startswith("_fused") else result


def _group_norm(tracer: Tracer, node: torch.fx.Node) -> Result:
    """Group norm: each group of channels of an image is one row that is normalized."""
    if operator_name(node) == "native_group_norm":
        x, weight, bias, _, _, _, groups, epsilon = arguments_of(node)
    else:
        x, groups, weight, bias, epsilon = arguments_of(node, None, None, None, None, 1e-5)[:5]
    value = tracer.value(x)
    image = shape_in("image", value.shape)
    form, shape = ("image", image) if image is not None else ("array", value.shape)
    lead = () if image is not None else shape[:1]
    channels = shape[len(lead)]
    rows = (*lead, groups, math.prod(shape[len(lead) :]) // groups)
    name = tracer.emit("reshape", [tracer.form(form, value)], rows, attributes={"shape": list(rows)})
    attributes = {"axes": [len(rows) - 1], "epsilon": float(epsilon), "center": True}
    name = tracer.emit("normalize", [name], rows, attributes=attributes)
    name = tracer.emit("reshape", [name], shape, attributes={"shape": list(shape)})
    column = (channels,) + (1,) * (len(value.shape) - 2)
    arrays = [tracer.constant(weight), tracer.constant(bias)]
    result = Value(value.shape, {form: name})
    result = _scaled(tracer, result, *(None if array is None else array.reshape(column) for array in arrays))
    return [result, None, None] if operator_name(node).startswith("native") else result


HANDLERS: Mapping[str, Handler] = {
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_native_batch_norm_legit": _no_statistics,
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _layer_norm),
    **dict.fromkeys(("rms_norm", "_fused_rms_norm"), _rms_norm),
    **dict.fromkeys(("group_norm", "native_group_norm"), _group_norm),
}
