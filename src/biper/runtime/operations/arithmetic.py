"""Elementwise operations on arrays of any shape: functions of one value, of two values, and a choice of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.bfloat16 import round_to_bfloat16
from biper.runtime.checks import Checker
from biper.runtime.operations.spec import Array, Attributes, Checked, OperationSpec, Tensors
from biper.runtime.program import Operation, Shape

_one = np.float32(1)
_erf_of_numbers: Any = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of_numbers(np.asarray(x, np.float64)), np.float32)


def _gelu(x: Array) -> Array:
    return np.asarray(x * (_one + _erf(np.asarray(x, np.float64) / math.sqrt(2))) / 2)


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(x * (_one + np.tanh(inner)) / 2)


def _sigmoid(x: Array) -> Array:
    return np.asarray(_one / (_one + np.exp(-x)))


def _softplus(x: Array, beta: np.float32, threshold: np.float32) -> Array:
    return np.where(x * beta > threshold, x, np.log1p(np.exp(np.minimum(x * beta, threshold))) / beta)


def _hardsigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x + 3, 0, 6) / np.float32(6))


def _elu(x: Array, alpha: np.float32, scale: np.float32, input_scale: np.float32) -> Array:
    return np.where(x > 0, x * scale, np.expm1(np.minimum(x, 0) * input_scale) * (alpha * scale))


UNARY: dict[str, tuple[tuple[str, ...], Callable[..., Array]]] = {
    "abs": ((), np.abs),
    "atan": ((), np.arctan),
    "bfloat16": ((), round_to_bfloat16),
    "ceil": ((), np.ceil),
    "clip": (("low", "high"), np.clip),
    "cos": ((), np.cos),
    "elu": (("alpha", "scale", "input_scale"), _elu),
    "erf": ((), _erf),
    "exp": ((), np.exp),
    "expm1": ((), np.expm1),
    "floor": ((), np.floor),
    "gelu": ((), _gelu),
    "gelu_tanh": ((), _gelu_tanh),
    "hardsigmoid": ((), _hardsigmoid),
    "hardswish": ((), lambda x: x * _hardsigmoid(x)),
    "leaky_relu": (("slope",), lambda x, slope: np.where(x > 0, x, x * slope)),
    "log": ((), np.log),
    "log1p": ((), np.log1p),
    "mish": ((), lambda x: x * np.tanh(np.logaddexp(x, np.float32(0)))),
    "negative": ((), np.negative),
    "power": (("exponent",), np.power),
    "reciprocal": ((), lambda x: _one / x),
    "relu": ((), lambda x: np.maximum(x, np.float32(0))),
    "round": ((), np.rint),
    "rsqrt": ((), lambda x: _one / np.sqrt(x)),
    "sigmoid": ((), _sigmoid),
    "sign": ((), np.sign),
    "silu": ((), lambda x: x * _sigmoid(x)),
    "sin": ((), np.sin),
    "softplus": (("beta", "threshold"), _softplus),
    "sqrt": ((), np.sqrt),
    "tanh": ((), np.tanh),
}
"""The functions of one value: the names of their parameters, and what they compute. ``round`` rounds halves to even,
and ``bfloat16`` rounds to the numbers of bfloat16."""

_CHEAP = (
    "abs",
    "bfloat16",
    "clip",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "negative",
    "reciprocal",
    "relu",
    "sign",
    "sqrt",
)
"""The functions of one value that take a few instructions."""

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "divide": np.divide,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "not_equal": np.not_equal,
    "power": np.power,
    "subtract": np.subtract,
}
"""The functions of two values. Comparisons give 1 where they hold and 0 elsewhere."""


def broadcast(check: Checker, shapes: list[Shape]) -> Shape:
    """The shape to which NumPy broadcasts arrays of these shapes."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        check.require(False, f"reads values of shapes {shapes}, which cannot be broadcast together")
        raise


def _unary_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    function = attributes.get("function")
    check.require(isinstance(function, str) and function in UNARY, f"has unknown function {function!r}")
    assert isinstance(function, str)
    names, _ = UNARY[function]
    check.numbers([attributes.get(name) for name in names], "parameters", len(names))
    return Checked(inputs[0], {"function", *names}, set())


def _unary(op: Operation, inputs: list[Array]) -> Array:
    names, function = UNARY[op.attributes["function"]]
    return function(inputs[0], *(np.float32(op.attributes[name]) for name in names))


def _binary_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    function = attributes.get("function")
    check.require(isinstance(function, str) and function in BINARY, f"has unknown function {function!r}")
    return Checked(broadcast(check, inputs), {"function"}, set())


def _binary(op: Operation, inputs: list[Array]) -> Array:
    return BINARY[op.attributes["function"]](inputs[0], inputs[1]).astype(np.float32, copy=False)


def _select_rule(check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    return Checked(broadcast(check, inputs), set(), set())


def _select(_op: Operation, inputs: list[NDArray[Any]]) -> Array:
    return np.where(inputs[0] != 0, inputs[1], inputs[2])


OPERATIONS = (
    OperationSpec(
        "unary",
        "A function of each element: an activation, a root, a power, an exponential and so on.",
        (
            "relu", "relu6", "hardtanh", "clamp", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "gelu", "elu",
            "selu", "celu", "leaky_relu", "mish", "softplus", "abs", "neg", "exp", "log", "sqrt", "rsqrt", "pow",
            "reciprocal", "sin", "cos", "erf", "floor", "ceil", "round", "sign",
        ),
        _unary_rule,
        _unary,
        work=lambda _inputs, _shape, attributes, _tensors: 4 if attributes["function"] in _CHEAP else 64,
    ),
    OperationSpec(
        "binary",
        "A function of two values that are broadcast together: arithmetic, the smaller or the larger, a comparison.",
        (
            "add", "sub", "rsub", "mul", "div", "minimum", "maximum", "pow", "eq", "ne", "lt", "le", "gt", "ge",
            "logical_and", "logical_or",
        ),
        _binary_rule,
        _binary,
        inputs=(2, 2),
        work=lambda _inputs, _shape, attributes, _tensors: 64 if attributes["function"] == "power" else 4,
    ),
    OperationSpec(
        "select",
        "The second value where the first is not 0, and the third elsewhere; all three are broadcast together.",
        ("where", "masked_fill"),
        _select_rule,
        _select,
        inputs=(3, 3),
    ),
)  # fmt: skip
