"""Handlers of elementwise arithmetic (with constants, and the sum of two values) and of activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.tracer import Handler, Tracer, arguments_of, operator_name, shape_of, source_of


def _arithmetic(tracer: Tracer, node: torch.fx.Node) -> str:
    kind = operator_name(node)
    left, right = arguments_of(node)[:2]
    if kind == "rsub":
        kind, left, right = "sub", right, left
    if node.kwargs.get("alpha", 1) != 1:
        raise ExportError(f"{source_of(node)}: {node.target} with alpha is not supported")
    constants = tracer.array(left), tracer.array(right)
    if constants[0] is None and constants[1] is None:
        if kind != "add":
            raise ExportError(f"{source_of(node)}: {kind} of two computed values is not supported; only their sum is")
        first, second = tracer.value(left, node), tracer.value(right, node)
        if shape_of(left) != shape_of(right):
            raise ExportError(
                f"{source_of(node)}: a sum of shapes {shape_of(left)} and {shape_of(right)} is not supported"
            )
        return tracer.emit(node, "elementwise", [first], residual=second)
    if kind == "div" and constants[1] is None:
        raise ExportError(f"{source_of(node)}: division by a computed value is not supported")
    constant = _per_channel(constants[1] if constants[1] is not None else constants[0], node)
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    match kind:
        case "sub" if constants[1] is None:
            multiplier, offset = -one, constant
        case "add":
            multiplier, offset = one, constant
        case "sub":
            multiplier, offset = one, -constant
        case "mul":
            multiplier, offset = constant, zero
        case _:
            if not constant.all():
                raise ExportError(f"{source_of(node)}: division by zero")
            multiplier, offset = one / constant, zero
    value = tracer.value(left if constants[1] is not None else right, node)
    return tracer.emit(node, "elementwise", [value], tensors={"multiplier": multiplier, "offset": offset})


def _negate(tracer: Tracer, node: torch.fx.Node) -> str:
    """``-x`` is a multiplication by -1."""
    channels = shape_of(node)[0]
    tensors = {"multiplier": np.full(channels, -1, np.float32), "offset": np.zeros(channels, np.float32)}
    return tracer.emit(node, "elementwise", [tracer.value(node.args[0], node)], tensors=tensors)


def _clamp(tracer: Tracer, node: torch.fx.Node) -> str:
    """A clamp between two numbers, as hardtanh computes it."""
    x, low, high = arguments_of(node, None, None, None)
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ExportError(
            f"{source_of(node)}: only a clamp between two numbers is supported; write relu, or both bounds"
        )
    attributes = {"activation": "clip", "low": float(low), "high": float(high)}
    return tracer.emit(node, "elementwise", [tracer.value(x, node)], attributes=attributes)


def _per_channel(constant: NDArray[Any] | None, node: torch.fx.Node) -> NDArray[np.float32]:
    """A constant that broadcasts over (1, C, H, W) or (1, F), as one number for each channel."""
    assert constant is not None
    shape = shape_of(node)
    rank = len(node.meta["val"].shape)
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    if len(sizes) != rank or sizes[0] != 1 or any(size != 1 for size in sizes[2:]) or sizes[1] not in (1, shape[0]):
        raise ExportError(
            f"{source_of(node)}: a constant of shape {constant.shape} beside {shape} is not supported; "
            "it must be one number, or one a channel"
        )
    return np.broadcast_to(constant.reshape(-1), shape[0]).astype(np.float32)


def _emit_activation(tracer: Tracer, node: torch.fx.Node, attributes: dict[str, Any], **tensors: NDArray[Any]) -> str:
    return tracer.emit(node, "elementwise", [tracer.value(node.args[0], node)], attributes=attributes, tensors=tensors)


def _hardtanh(tracer: Tracer, node: torch.fx.Node) -> str:
    _, low, high = arguments_of(node, None, -1.0, 1.0)
    return _emit_activation(tracer, node, {"activation": "clip", "low": float(low), "high": float(high)})


def _relu6(tracer: Tracer, node: torch.fx.Node) -> str:
    return _emit_activation(tracer, node, {"activation": "clip", "low": 0.0, "high": 6.0})


def _relu(tracer: Tracer, node: torch.fx.Node) -> str:
    return _emit_activation(tracer, node, {"activation": "relu"})


def _prelu(tracer: Tracer, node: torch.fx.Node) -> str:
    slope = tracer.array(arguments_of(node)[1])
    if slope is None:
        raise ExportError(f"{source_of(node)}: a PReLU with computed slopes is not supported")
    slopes = np.broadcast_to(slope.reshape(-1), shape_of(node)[0]).astype(np.float32)
    return _emit_activation(tracer, node, {"activation": "prelu"}, slope=slopes)


HANDLERS: Mapping[str, Handler] = {
    "neg": _negate,
    "clamp": _clamp,
    "add": _arithmetic,
    "sub": _arithmetic,
    "rsub": _arithmetic,
    "mul": _arithmetic,
    "div": _arithmetic,
    "hardtanh": _hardtanh,
    "relu": _relu,
    "relu6": _relu6,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
}
