"""Handlers of hyperbolic functions, and of the inverses of sine, cosine and tangent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from biper.lowering.operators.elementwise import binary, choice, unary
from biper.lowering.torch_nodes import arguments_of, operator_name, sizes_of
from biper.lowering.tracer import Handler, Tracer
from biper.lowering.values import Value


def _hyperbolic(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``sinh`` and ``cosh``: half the difference, or half the sum, of ``exp(x)`` and ``exp(-x)``."""
    shape = sizes_of(node)
    grows = unary(tracer, node.args[0], "exp")
    falls = unary(tracer, binary(tracer, "multiply", node.args[0], -1.0, shape), "exp")
    function = "subtract" if operator_name(node) == "sinh" else "add"
    return binary(tracer, "multiply", binary(tracer, function, grows, falls, shape), 0.5, shape)


def _tangent(tracer: Tracer, node: torch.fx.Node) -> Value:
    sine, cosine = (unary(tracer, node.args[0], name) for name in ("sin", "cos"))
    return binary(tracer, "divide", sine, cosine, sizes_of(node))


def _arc_hyperbolic(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``asinh``, ``acosh`` and ``atanh`` by logarithms; asinh of the magnitude, with the sign put back."""
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    kind = operator_name(node)
    if kind == "atanh":
        rise = unary(tracer, value, "log1p")
        fall = unary(tracer, unary(tracer, value, "negative"), "log1p")
        return binary(tracer, "multiply", binary(tracer, "subtract", rise, fall, shape), 0.5, shape)
    size = unary(tracer, value, "abs")
    square = binary(tracer, "multiply", size, size, shape)
    root = unary(tracer, binary(tracer, "add" if kind == "asinh" else "subtract", square, 1.0, shape), "sqrt")
    result = unary(tracer, binary(tracer, "add", size, root, shape), "log")
    return result if kind == "acosh" else binary(tracer, "multiply", result, unary(tracer, value, "sign"), shape)


def angle(tracer: Tracer, y: Any, x: Any, shape: tuple[int, ...]) -> Value:
    """``atan2(y, x)``: ``atan(y / x)``, half a turn further where x is negative, and 0 at the origin; -0 is 0."""
    quotient = unary(tracer, binary(tracer, "divide", y, x, shape), "atan")
    half_turn = choice(tracer, [binary(tracer, "less", y, 0.0, shape), -math.pi, math.pi], shape)
    turned = binary(tracer, "add", quotient, half_turn, shape)
    result = choice(tracer, [binary(tracer, "less", x, 0.0, shape), turned, quotient], shape)
    size = binary(tracer, "add", unary(tracer, x, "abs"), unary(tracer, y, "abs"), shape)
    return choice(tracer, [binary(tracer, "equal", size, 0.0, shape), 0.0, result], shape)


def _angle(tracer: Tracer, node: torch.fx.Node) -> Value:
    y, x = (tracer.value(argument) for argument in arguments_of(node)[:2])
    return angle(tracer, y, x, sizes_of(node))


def _arc(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``asin`` and ``acos``: the angle whose sine or cosine is x; the other side is ``sqrt((1 - x) (1 + x))``."""
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    less, more = (binary(tracer, function, 1.0, value, shape) for function in ("subtract", "add"))
    other = unary(tracer, binary(tracer, "multiply", less, more, shape), "sqrt")
    return angle(tracer, *((value, other) if operator_name(node) == "asin" else (other, value)), shape)


HANDLERS: Mapping[str, Handler] = {
    "sinh": _hyperbolic,
    "cosh": _hyperbolic,
    **dict.fromkeys(("asinh", "acosh", "atanh"), _arc_hyperbolic),
    "tan": _tangent,
    "atan2": _angle,
    "asin": _arc,
    "acos": _arc,
}
