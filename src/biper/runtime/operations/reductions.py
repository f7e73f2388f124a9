"""Operations on arrays that combine the elements along axes: reductions, softmax, normalization, matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from biper.runtime.checks import Checker
from biper.runtime.operations.arithmetic import broadcast
from biper.runtime.operations.spec import Array, Attributes, Checked, OperationSpec, Tensors
from biper.runtime.program import Operation, Shape

REDUCTIONS: dict[str, Callable[..., Array]] = {
    "max": np.max,
    "mean": np.mean,
    "min": np.min,
    "product": np.prod,
    "sum": np.sum,
}
"""What can be computed over axes."""


_GATHERED = 4  # elementary operations for an element that is read, at any distance from the last


def checked_axes(check: Checker, value: Any, rank: int) -> list[int]:
    """Axes of an array of this rank: a list of one or more, ascending, none twice."""
    count = len(value) if isinstance(value, list) else 0
    check.require(0 < count <= rank, f"has axes {value!r} for a value of {rank} dimensions")
    axes = check.integers(value, "axes", count, 0, rank - 1)
    check.require(axes == sorted(set(axes)), f"has axes {axes}, which are not ascending")
    return axes


def checked_flag(check: Checker, attributes: Attributes, name: str) -> bool:
    """An attribute that is true or false."""
    value = attributes.get(name)
    check.require(isinstance(value, bool), f"has {name} {value!r}, expected true or false")
    return bool(value)


def _reduce_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    (shape,) = inputs
    function = attributes.get("function")
    check.require(isinstance(function, str) and function in REDUCTIONS, f"has unknown function {function!r}")
    axes = checked_axes(check, attributes.get("axes"), len(shape))
    keep = checked_flag(check, attributes, "keep")
    sizes = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    return Checked(tuple(sizes), {"function", "axes", "keep"}, set())


def _reduce(op: Operation, inputs: list[Array]) -> Array:
    get = op.attributes
    return np.asarray(REDUCTIONS[get["function"]](inputs[0], axis=tuple(get["axes"]), keepdims=get["keep"]), np.float32)


def _softmax_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    check.integers([attributes.get("axis")], "axis", 1, 0, len(inputs[0]) - 1)
    checked_flag(check, attributes, "log")
    return Checked(inputs[0], {"axis", "log"}, set())


def _softmax(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    axis = op.attributes["axis"]
    shifted = x - x.max(axis, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if op.attributes["log"] else weights / total)


def _normalize_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    checked_axes(check, attributes.get("axes"), len(inputs[0]))
    checked_flag(check, attributes, "center")
    (epsilon,) = check.numbers([attributes.get("epsilon")], "epsilon", 1)
    check.require(epsilon >= 0, f"has epsilon {epsilon}")
    return Checked(inputs[0], {"axes", "center", "epsilon"}, set())


def _normalize(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    axes = tuple(op.attributes["axes"])
    if op.attributes["center"]:
        x = x - x.mean(axes, keepdims=True)
    square = np.mean(x * x, axes, keepdims=True)
    return np.asarray(x / np.sqrt(square + np.float32(op.attributes["epsilon"])))


def _matmul_rule(check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    left, right = inputs
    fits = len(left) >= 2 and len(right) >= 2 and left[-1] == right[-2]
    check.require(fits, f"multiplies matrices of shapes {left} and {right}")
    batch = broadcast(check, [left[:-2], right[:-2]])
    return Checked((*batch, left[-2], right[-1]), set(), set())


OPERATIONS = (
    OperationSpec(
        "reduce",
        "The sum, mean, product, largest or smallest over one or more axes.",
        ("sum", "mean", "amax", "amin", "max", "min", "prod"),
        _reduce_rule,
        _reduce,
        work=lambda inputs, shape, _attributes, _tensors: _GATHERED * math.prod(inputs[0]) // max(math.prod(shape), 1),
    ),
    OperationSpec(
        "softmax",
        "Softmax or its logarithm along one axis.",
        ("softmax", "log_softmax"),
        _softmax_rule,
        _softmax,
        work=lambda *_: 64,
    ),
    OperationSpec(
        "normalize",
        "Subtracts the mean over axes, if `center`, and divides by the root of the mean square plus `epsilon`.",
        ("layer_norm", "group_norm", "instance_norm", "rms_norm"),
        _normalize_rule,
        _normalize,
        work=lambda *_: 16,
    ),
    OperationSpec(
        "matmul",
        "The product of two stacks of matrices, whose leading axes are broadcast together.",
        ("matmul", "mm", "bmm", "addmm", "baddbmm", "linear", "scaled_dot_product_attention"),
        _matmul_rule,
        lambda _op, inputs: np.matmul(inputs[0], inputs[1]),
        inputs=(2, 2),
        work=lambda inputs, *_: inputs[0][-1],
    ),
)
"""The operations of this family."""
