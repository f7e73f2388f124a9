"""The functions of one and of two values in C: an expression for each."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HARDSIGMOID = "(x < -3.0f ? 0.0f : x > 3.0f ? 6.0f : x + 3.0f) / 6.0f"

UNARY = {
    "abs": "x < 0.0f ? -x : x",
    "atan": "atanf(x)",
    "bfloat16": "to_bfloat16(x)",
    "ceil": "ceilf(x)",
    "clip": "x < p[0] ? p[0] : x > p[1] ? p[1] : x",
    "cos": "cosf(x)",
    "elu": "x > 0.0f ? x * p[1] : expm1f(x * p[2]) * (p[0] * p[1])",
    "erf": "erff(x)",
    "exp": "expf(x)",
    "expm1": "expm1f(x)",
    "floor": "floorf(x)",
    "gelu": "x * (1.0f + erff(x * 0.707106781f)) / 2.0f",
    "gelu_tanh": "x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * x * x * x))) / 2.0f",
    "hardsigmoid": _HARDSIGMOID,
    "hardswish": f"x * ({_HARDSIGMOID})",
    "leaky_relu": "x > 0.0f ? x : x * p[0]",
    "log": "logf(x)",
    "log1p": "log1pf(x)",
    "mish": "x > 20.0f ? x : x * tanhf(log1pf(expf(x)))",
    "negative": "-x",
    "power": "powf(x, p[0])",
    "reciprocal": "1.0f / x",
    "relu": "x < 0.0f ? 0.0f : x",
    "round": "rintf(x)",
    "rsqrt": "1.0f / sqrtf(x)",
    "sigmoid": "1.0f / (1.0f + expf(-x))",
    "sign": "(float)((x > 0.0f) - (x < 0.0f))",
    "silu": "x / (1.0f + expf(-x))",
    "sin": "sinf(x)",
    "softplus": "x * p[0] > p[1] ? x : log1pf(expf(x * p[0])) / p[0]",
    "sqrt": "sqrtf(x)",
    "tanh": "tanhf(x)",
}
"""Functions of ``x``; ``p`` has their parameters, in the order of `biper.runtime.operations.arithmetic.UNARY`."""

BINARY = {
    "add": "x + y",
    "divide": "x / y",
    "equal": "x == y ? 1.0f : 0.0f",
    "greater": "x > y ? 1.0f : 0.0f",
    "greater_equal": "x >= y ? 1.0f : 0.0f",
    "less": "x < y ? 1.0f : 0.0f",
    "less_equal": "x <= y ? 1.0f : 0.0f",
    "maximum": "x > y ? x : y",
    "minimum": "x < y ? x : y",
    "multiply": "x * y",
    "not_equal": "x == y ? 0.0f : 1.0f",
    "power": "powf(x, y)",
    "subtract": "x - y",
}
"""Functions of ``x`` and ``y``."""

INTEGER_BINARY = {
    "add": "x + y",
    "divide": "y ? x / y : x > 0 ? 1073741823 : x < 0 ? -1073741823 : 0",
    "equal": "x == y ? 16384 : 0",
    "greater": "x > y ? 16384 : 0",
    "greater_equal": "x >= y ? 16384 : 0",
    "less": "x < y ? 16384 : 0",
    "less_equal": "x <= y ? 16384 : 0",
    "maximum": "x > y ? x : y",
    "minimum": "x < y ? x : y",
    "multiply": "x * y",
    "not_equal": "x == y ? 0 : 16384",
    "subtract": "x - y",
}
"""Functions of integers ``x`` and ``y``; `biper.targets.c.fixed_arrays` says at which exponents."""

REDUCTIONS = {"max": "maximum", "mean": "add", "min": "minimum", "product": "multiply", "sum": "add"}
"""By which function of two values elements are reduced."""

_HELPERS = {
    "bfloat16": """\
static float to_bfloat16(float x)
{
    union { float number; uint32_t bits; } y;
    y.number = x;
    if (x == x) y.bits = (y.bits + 0x7fffu + (y.bits >> 16 & 1u)) & 0xffff0000u;
    return y.number;
}
"""
}
"""What stands before the function of one value of this name."""

_LIBRARY = re.compile(r"\b(?:atan|ceil|cos|erf|exp|expm1|floor|log|log1p|pow|rint|sin|sqrt|tanh)f\(")


def definition(kind: str, name: str) -> str:
    """The C function of one entry.

    Args:
        kind: ``"unary"``, ``"binary"`` or ``"integer_binary"``.
        name: of the function.
    """
    if kind == "binary":
        return f"static float binary_{name}(float x, float y) {{ return {BINARY[name]}; }}\n"
    if kind == "integer_binary":
        return f"static int32_t integer_binary_{name}(int32_t x, int32_t y) {{ return {INTEGER_BINARY[name]}; }}\n"
    expression = UNARY[name]
    helper = _HELPERS.get(name, "")
    if "p[" not in expression:
        return f"{helper}static float unary_{name}(float x, const float *p) {{ (void)p; return {expression}; }}\n"
    return f"{helper}static float unary_{name}(float x, const float *p) {{ return {expression}; }}\n"


def library_functions(texts: Iterable[str]) -> set[str]:
    """The names of the functions of ``math.h`` that C text calls."""
    return {match[:-1] for text in texts for match in _LIBRARY.findall(text)}
