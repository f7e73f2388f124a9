"""Operations on arrays in OpenVINO: the nodes of each.

A value has a batch axis in front unless it is the same for every image; see `biper.targets.array_shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from openvino import opset11 as ov

from biper.runtime.program import Operation, Shape
from biper.targets.array_shapes import padded_rank, padding_steps

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": ov.add,
    "divide": ov.divide,
    "equal": ov.equal,
    "greater": ov.greater,
    "greater_equal": ov.greater_equal,
    "less": ov.less,
    "less_equal": ov.less_equal,
    "maximum": ov.maximum,
    "minimum": ov.minimum,
    "multiply": ov.multiply,
    "not_equal": ov.not_equal,
    "power": ov.power,
    "subtract": ov.subtract,
}
"""The operator of each function of two values."""

COMPARISONS = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "max": ov.reduce_max,
    "mean": ov.reduce_mean,
    "min": ov.reduce_min,
    "product": ov.reduce_prod,
    "sum": ov.reduce_sum,
}

UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": ov.absolute,
    "atan": ov.atan,
    "bfloat16": lambda x: ov.convert(ov.convert(x, "bf16"), "f32"),
    "ceil": ov.ceiling,
    "cos": ov.cos,
    "erf": ov.erf,
    "exp": ov.exp,
    "floor": ov.floor,
    "gelu": lambda x: ov.gelu(x, "erf"),
    "gelu_tanh": lambda x: ov.gelu(x, "tanh"),
    "hardswish": ov.hswish,
    "log": ov.log,
    "mish": ov.mish,
    "negative": ov.negative,
    "relu": ov.relu,
    "round": lambda x: ov.round(x, "half_to_even"),
    "sigmoid": ov.sigmoid,
    "sign": ov.sign,
    "silu": ov.swish,
    "sin": ov.sin,
    "sqrt": ov.sqrt,
    "tanh": ov.tanh,
}
"""The functions of one value that are one operator."""

SAME_AS_LINEAR = 17
"""From here on, softplus of x is x in float32."""


class ArrayNodes:
    """Makes the nodes of operations on arrays.

    Args:
        shapes: of the program's values.
        constants: the values without a batch axis.
        batch: images of one call.
    """

    def __init__(self, shapes: dict[str, Shape], constants: frozenset[str], batch: int) -> None:
        self.shapes, self.constants, self.batch = shapes, constants, batch

    def made(self, op: Operation, values: dict[str, Any]) -> Any:
        """The node of an operation on arrays; ``values`` has those of its inputs."""
        if op.operation == "constant":
            return ov.constant(np.asarray(op.tensors["value"], np.float32))
        lead = [self.batch][: int(op.real not in self.constants)]
        make: Callable[..., Any] = getattr(self, f"{op.operation}_node")
        return make(op, [values[name] for name in op.inputs], lead)

    def batched(self, name: str, values: dict[str, Any]) -> Any:
        """A value with its batch axis, which those that are the same for every image do not have."""
        if name not in self.constants:
            return values[name]
        return ov.broadcast(values[name], _whole([self.batch, *self.shapes[name]]))

    def lifted(self, op: Operation, inputs: list[Any]) -> list[Any]:
        """The inputs, with as many axes behind their batch axes as the result of the operation has."""
        made = []
        for name, node in zip(op.inputs, inputs, strict=True):
            shape = self.shapes[name]
            alike = name in self.constants or len(shape) >= len(op.shape)
            lifted = _whole([self.batch, *padded_rank(shape, len(op.shape))])
            made.append(node if alike else ov.reshape(node, lifted, False))
        return made

    def unary_node(self, op: Operation, inputs: list[Any], _lead: list[int]) -> Any:
        """A function of each element."""
        (x,), a, function = inputs, op.attributes, op.attributes["function"]
        number = {key: _number(value) for key, value in a.items() if key != "function"}
        one, zero = _number(1), _number(0)
        match function:
            case "clip":
                return ov.minimum(ov.maximum(x, number["low"]), number["high"])
            case "elu":
                bent = ov.subtract(ov.exp(ov.multiply(ov.minimum(x, zero), number["input_scale"])), one)
                bent = ov.multiply(bent, _number(a["alpha"] * a["scale"]))
                return ov.select(ov.greater(x, zero), ov.multiply(x, number["scale"]), bent)
            case "expm1":
                return ov.subtract(ov.exp(x), one)
            case "hardsigmoid":
                return ov.hard_sigmoid(x, _number(1 / 6), _number(0.5))
            case "leaky_relu":
                return ov.select(ov.greater(x, zero), x, ov.multiply(x, number["slope"]))
            case "log1p":
                return ov.log(ov.add(x, one))
            case "power":
                return ov.power(x, number["exponent"])
            case "reciprocal":
                return ov.divide(one, x)
            case "rsqrt":
                return ov.divide(one, ov.sqrt(x))
            case "softplus":
                scaled = ov.multiply(x, number["beta"])
                soft = ov.divide(ov.softplus(scaled), number["beta"])
                if a["threshold"] >= SAME_AS_LINEAR:
                    return soft
                return ov.select(ov.greater(scaled, number["threshold"]), x, soft)
        return UNARY[function](x)

    def binary_node(self, op: Operation, inputs: list[Any], _lead: list[int]) -> Any:
        """A function of two values; the result of a comparison becomes a number."""
        function = op.attributes["function"]
        made = BINARY[function](*self.lifted(op, inputs))
        return ov.convert(made, np.float32) if function in COMPARISONS else made

    def select_node(self, op: Operation, inputs: list[Any], _lead: list[int]) -> Any:
        """A choice of two values."""
        chosen, yes, no = self.lifted(op, inputs)
        return ov.select(ov.not_equal(chosen, _number(0)), yes, no)

    def reduce_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """A sum, mean, product or extreme over axes."""
        axes = _whole([axis + len(lead) for axis in op.attributes["axes"]])
        return REDUCTIONS[op.attributes["function"]](inputs[0], axes, op.attributes["keep"])

    def softmax_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """Softmax or its logarithm."""
        make = ov.log_softmax if op.attributes["log"] else ov.softmax
        return make(inputs[0], op.attributes["axis"] + len(lead))

    def normalize_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """Mean-variance normalization where the mean is subtracted; else its parts."""
        (x,), a = inputs, op.attributes
        axes = _whole([axis + len(lead) for axis in a["axes"]])
        if a["center"]:
            return ov.mvn(x, axes, True, a["epsilon"], "inside_sqrt")
        square = ov.reduce_mean(ov.multiply(x, x), axes, True)
        return ov.divide(x, ov.sqrt(ov.add(square, _number(a["epsilon"]))))

    def matmul_node(self, op: Operation, inputs: list[Any], _lead: list[int]) -> Any:
        """Products of matrices."""
        return ov.matmul(*self.lifted(op, inputs), False, False)

    def reshape_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """The same elements in another shape."""
        return ov.reshape(inputs[0], _whole([*lead, *op.shape]), False)

    def permute_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """The same elements with the axes in another order."""
        order = list(range(len(lead))) + [axis + len(lead) for axis in op.attributes["order"]]
        return ov.transpose(inputs[0], _whole(order))

    def slice_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """A part of a value."""
        starts, sizes, steps = (op.attributes[name] for name in ("starts", "sizes", "steps"))
        ends = [start + (size - 1) * step + 1 for start, size, step in zip(starts, sizes, steps, strict=True)]
        return _part(inputs[0], starts, ends, len(lead), steps)

    def expand_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """Repeats axes of size 1."""
        return ov.broadcast(self.lifted(op, inputs)[0], _whole([*lead, *op.shape]))

    def join_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """A concatenation."""
        values = dict(zip(op.inputs, inputs, strict=True))
        parts = [self.batched(name, values) for name in op.inputs] if lead else inputs
        return ov.concat(parts, op.attributes["axis"] + len(lead))

    def pad_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """Elements between others by a new axis, then a part, then elements around it."""
        (x,), shape, none = inputs, self.shapes[op.inputs[0]], [0] * len(lead)
        steps, value = padding_steps(op, shape), _number(op.attributes["value"])
        if steps.split is not None:
            x = ov.reshape(x, _whole([*lead, *steps.split]), False)
            after = none + [entry for between in steps.between for entry in (0, between)]
            x = ov.pad(x, _whole([0] * len(after)), _whole(after), "constant", value)
            x = ov.reshape(x, _whole([*lead, *steps.joined]), False)
        if any(steps.starts) or steps.ends != steps.joined:
            x = _part(x, steps.starts, steps.ends, len(lead))
        return ov.pad(x, _whole([*none, *steps.low]), _whole([*none, *steps.high]), "constant", value)

    def sample_node(self, op: Operation, inputs: list[Any], lead: list[int]) -> Any:
        """All taps by one index of two axes, of which the first is then reduced."""
        axis, rank = op.attributes["axis"] + len(lead), len(op.shape) + len(lead)
        taken = ov.gather(inputs[0], ov.constant(op.tensors["index"]), ov.constant(np.int64(axis)))
        if (weight := op.tensors.get("weight")) is not None:
            taken = ov.multiply(taken, ov.constant(weight.reshape(*weight.shape, *[1] * (rank - 1 - axis))))
        reduce = ov.reduce_max if op.attributes["function"] == "max" else ov.reduce_sum
        return reduce(taken, _whole([axis]), False)


def _part(x: Any, starts: Sequence[int], ends: Sequence[int], lead: int, steps: Sequence[int] | None = None) -> Any:
    axes = range(lead, len(starts) + lead)
    return ov.slice(x, _whole(starts), _whole(ends), _whole(steps or [1] * len(starts)), _whole(axes))


def _number(value: float) -> Any:
    return ov.constant(np.float32(value))


def _whole(numbers: Sequence[int]) -> Any:
    return ov.constant(np.array(numbers, np.int64))
