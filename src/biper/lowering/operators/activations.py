"""Handlers of activations and of other functions of one value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.operators.elementwise import binary, choice, unary
from biper.lowering.torch_nodes import arguments_of, keywords_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in

FUNCTIONS = {
    "abs": "abs", "atan": "atan", "ceil": "ceil", "cos": "cos", "erf": "erf", "exp": "exp", "expm1": "expm1",
    "floor": "floor", "hardsigmoid": "hardsigmoid", "hardswish": "hardswish", "log": "log", "log1p": "log1p",
    "mish": "mish", "reciprocal": "reciprocal", "rsqrt": "rsqrt", "sigmoid": "sigmoid", "sgn": "sign", "sign": "sign",
    "silu": "silu", "sin": "sin", "sqrt": "sqrt", "tanh": "tanh",
}  # fmt: skip
"""Torch operators without parameters, and the function of the operation ``unary`` that each is."""


def _function(tracer: Tracer, node: torch.fx.Node) -> Value:
    return unary(tracer, node.args[0], FUNCTIONS[operator_name(node)])


def _fused(tracer: Tracer, node: torch.fx.Node, attributes: dict[str, Any], **tensors: NDArray[Any]) -> Value:
    """An activation that the operation before it absorbs, for images and rows; a function of the array otherwise."""
    value = tracer.value(node.args[0])
    form = next((name for name in ("image", "rows") if name in value.names), None)
    if form is None:
        parameters = {key: number for key, number in attributes.items() if key != "activation"}
        return unary(tracer, value, attributes["activation"], **parameters)
    shape = shape_in(form, value.shape)
    assert shape is not None
    name = tracer.emit("elementwise", [value.names[form]], shape, attributes=attributes, tensors=tensors)
    return Value(value.shape, {form: name})


def _clip(tracer: Tracer, node: torch.fx.Node, low: float, high: float) -> Value:
    return _fused(tracer, node, {"activation": "clip", "low": float(low), "high": float(high)})


def _hardtanh(tracer: Tracer, node: torch.fx.Node) -> Value:
    _, low, high = arguments_of(node, None, -1.0, 1.0)
    return _clip(tracer, node, low, high)


def _clamp(tracer: Tracer, node: torch.fx.Node) -> Value:
    """A clamp: between two numbers as hardtanh, at 0 as relu, otherwise as a maximum and a minimum."""
    x, low, high = arguments_of(node, None, None, None)
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    if isinstance(low, int | float) and isinstance(high, int | float) and low <= high:
        return _clip(tracer, node, low, high)
    if high is None and isinstance(low, int | float) and low == 0:
        return _fused(tracer, node, {"activation": "relu"})
    value = tracer.value(x)
    for function, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            value = binary(tracer, function, value, bound, sizes_of(node))
    return value


def _relu(tracer: Tracer, node: torch.fx.Node) -> Value:
    return _fused(tracer, node, {"activation": "relu"})


def _relu6(tracer: Tracer, node: torch.fx.Node) -> Value:
    return _clip(tracer, node, 0, 6)


def _prelu(tracer: Tracer, node: torch.fx.Node) -> Value:
    """A slope for all negative values, or one for each channel, which is axis 1."""
    slope = tracer.constant(arguments_of(node)[1])
    value = tracer.value(node.args[0])
    if slope is None:
        raise ExportError(f"{source_of(node)}: a PReLU with computed slopes is not supported; write it with where")
    shape = shape_in("image", value.shape)
    if "image" in value.names and shape is not None:
        slopes = np.array(np.broadcast_to(slope.reshape(-1), shape[0]), np.float32)
        return _fused(tracer, node, {"activation": "prelu"}, slope=slopes)
    if slope.size == 1:
        return unary(tracer, value, "leaky_relu", slope=float(slope.reshape(-1)[0]))
    column = slope if operator_name(node) == "_prelu_kernel" else slope.reshape(-1, *[1] * (len(value.shape) - 2))
    scaled = binary(tracer, "multiply", value, column, value.shape)
    positive = binary(tracer, "greater_equal", value, 0.0, value.shape)
    return choice(tracer, [positive, value, scaled], value.shape)


def _leaky_relu(tracer: Tracer, node: torch.fx.Node) -> Value:
    return _leaky(tracer, node, arguments_of(node, None, 0.01)[1])


def _leaky(tracer: Tracer, node: torch.fx.Node, slope: float) -> Value:
    """The first argument of a node, whose negative numbers are multiplied by one slope."""
    value = tracer.value(node.args[0])
    form = next((name for name in ("image", "rows") if name in value.names), None)
    if form is None:
        return unary(tracer, value, "leaky_relu", slope=slope)
    shape = shape_in(form, value.shape)
    assert shape is not None
    return _fused(tracer, node, {"activation": "prelu"}, slope=np.full(shape[0], slope, np.float32))


def _random_relu(tracer: Tracer, node: torch.fx.Node) -> Result:
    """RReLU in evaluation mode: a leaky relu with the slope in the middle of its range."""
    known = keywords_of(node)
    low, high = known.get("lower", 1 / 8), known.get("upper", 1 / 3)
    if known.get("training", False):
        raise ExportError(
            f"{source_of(node)}: an RReLU in training mode gives other numbers in every call; call eval()"
        )
    result = _leaky(tracer, node, (low + high) / 2)
    return [result, None] if isinstance(node.meta["val"], list | tuple) else result


def _gelu(tracer: Tracer, node: torch.fx.Node) -> Value:
    kind = node.kwargs.get("approximate", node.args[1] if len(node.args) > 1 else "none")
    return unary(tracer, node.args[0], "gelu_tanh" if kind == "tanh" else "gelu")


def _elu(tracer: Tracer, node: torch.fx.Node) -> Value:
    _, alpha, scale, input_scale = arguments_of(node, None, 1.0, 1.0, 1.0)
    return unary(tracer, node.args[0], "elu", alpha=alpha, scale=scale, input_scale=input_scale)


def _softplus(tracer: Tracer, node: torch.fx.Node) -> Value:
    _, beta, threshold = arguments_of(node, None, 1.0, 20.0)
    return unary(tracer, node.args[0], "softplus", beta=beta, threshold=threshold)


def _exp2(tracer: Tracer, node: torch.fx.Node) -> Value:
    scaled = binary(tracer, "multiply", node.args[0], math.log(2), sizes_of(node))
    return unary(tracer, scaled, "exp")


def _logarithm(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``log2`` and ``log10``: the natural logarithm divided by that of the base."""
    base = 2 if operator_name(node) == "log2" else 10
    return binary(tracer, "divide", unary(tracer, node.args[0], "log"), math.log(base), sizes_of(node))


def _complement(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``erfc(x) = 1 - erf(x)``."""
    return binary(tracer, "subtract", 1.0, unary(tracer, node.args[0], "erf"), sizes_of(node))


HANDLERS: Mapping[str, Handler] = {
    "clamp": _clamp,
    "elu": _elu,
    "exp2": _exp2,
    "log2": _logarithm,
    "log10": _logarithm,
    "erfc": _complement,
    "gelu": _gelu,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "relu": _relu,
    "relu6": _relu6,
    **dict.fromkeys(("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional"), _random_relu),
    "softplus": _softplus,
    **dict.fromkeys(FUNCTIONS, _function),
}
