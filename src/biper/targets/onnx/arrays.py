"""Operations on arrays in ONNX: the nodes of each.

A value has a batch axis in front unless it is the same for every image; see `biper.targets.array_shapes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from biper.runtime.program import Operation, Shape
from biper.targets.array_shapes import padded_rank, padding_steps
from biper.targets.onnx.nodes import Nodes, whole

BINARY = {
    "add": "Add",
    "divide": "Div",
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "maximum": "Max",
    "minimum": "Min",
    "multiply": "Mul",
    "not_equal": "Equal",
    "power": "Pow",
    "subtract": "Sub",
}
"""The operator of each function of two values; what `Equal` gives is inverted for ``not_equal``."""

COMPARISONS = ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")

REDUCTIONS = {"max": "ReduceMax", "mean": "ReduceMean", "min": "ReduceMin", "product": "ReduceProd", "sum": "ReduceSum"}

UNARY = {
    "abs": "Abs",
    "atan": "Atan",
    "ceil": "Ceil",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "gelu": "Gelu",
    "hardswish": "HardSwish",
    "log": "Log",
    "mish": "Mish",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}
"""The functions of one value that are one operator without attributes."""

SAME_AS_LINEAR = 17
"""From here on, softplus of x is x in float32."""


class ArrayNodes:
    """Writes operations on arrays.

    Args:
        nodes: where nodes are added.
        shapes: of the program's values.
        constants: the values without a batch axis.
        batched: adds the batch axis to a value, given its name, where it has none; returns the name of the result.
    """

    def __init__(
        self, nodes: Nodes, shapes: dict[str, Shape], constants: frozenset[str], batched: Callable[[str], str]
    ) -> None:
        self.nodes, self.shapes, self.constants, self.batched = nodes, shapes, constants, batched

    def add(self, op: Operation) -> None:
        """Add the nodes of one operation on arrays."""
        if op.operation == "constant":
            self.nodes.constant(op.tensors["value"], op.real)
            return
        lead = int(op.real not in self.constants)
        shapes = [self.shapes[name] for name in op.inputs]
        write: Callable[..., str] = getattr(self, op.operation)
        write(op, op.inputs, shapes, lead)
        self.nodes.rename_last(op.real or "")

    def lifted(self, name: str, rank: int) -> str:
        """A value of at least ``rank`` axes behind its batch axis; without a batch axis it broadcasts as it is."""
        shape = self.shapes[name]
        if name in self.constants or len(shape) >= rank:
            return name
        return self.nodes.add("Reshape", name, whole([-1, *padded_rank(shape, rank)]))

    def unary(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], _lead: int) -> str:
        """A function of each element."""
        n, (x,), a, function = self.nodes.add, inputs, op.attributes, op.attributes["function"]
        numbers = {key: np.float32(value) for key, value in a.items() if key != "function"}
        one, zero = np.float32(1), np.float32(0)
        match function:
            case "bfloat16":
                return n("Cast", n("Cast", x, to=TensorProto.BFLOAT16), to=TensorProto.FLOAT)
            case "clip":
                return n("Clip", x, numbers["low"], numbers["high"])
            case "elu" if a["scale"] == a["input_scale"] == 1:
                return n("Elu", x, alpha=a["alpha"])
            case "elu":
                below = n("Mul", n("Min", x, zero), numbers["input_scale"])
                bent = n("Mul", n("Sub", n("Exp", below), one), numbers["alpha"] * numbers["scale"])
                return n("Where", n("Greater", x, zero), n("Mul", x, numbers["scale"]), bent)
            case "expm1":
                return n("Sub", n("Exp", x), one)
            case "gelu_tanh":
                return n("Gelu", x, approximate="tanh")
            case "hardsigmoid":
                return n("HardSigmoid", x, alpha=1 / 6, beta=0.5)
            case "leaky_relu":
                return n("LeakyRelu", x, alpha=a["slope"])
            case "log1p":
                return n("Log", n("Add", x, one))
            case "power":
                return n("Pow", x, numbers["exponent"])
            case "rsqrt":
                return n("Reciprocal", n("Sqrt", x))
            case "silu":
                return n("Mul", x, n("Sigmoid", x))
            case "softplus":
                return self.softplus(x, a["beta"], a["threshold"])
        return n(UNARY[function], x)

    def softplus(self, x: str, beta: float, threshold: float) -> str:
        """``log(1 + exp(beta x)) / beta``, and x where ``beta x > threshold``."""
        n = self.nodes.add
        scaled = x if beta == 1 else n("Mul", x, np.float32(beta))
        soft = n("Softplus", scaled)
        if beta != 1:
            soft = n("Div", soft, np.float32(beta))
        if threshold >= SAME_AS_LINEAR:
            return soft
        return n("Where", n("Greater", scaled, np.float32(threshold)), x, soft)

    def binary(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], _lead: int) -> str:
        """A function of two values; the result of a comparison becomes a number."""
        function = op.attributes["function"]
        made = self.nodes.add(BINARY[function], *(self.lifted(name, len(op.shape)) for name in inputs))
        if function == "not_equal":
            made = self.nodes.add("Not", made)
        return self.nodes.add("Cast", made, to=TensorProto.FLOAT) if function in COMPARISONS else made

    def select(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], _lead: int) -> str:
        """A choice of two values."""
        chosen, yes, no = (self.lifted(name, len(op.shape)) for name in inputs)
        return self.nodes.add("Where", self.nodes.add("Cast", chosen, to=TensorProto.BOOL), yes, no)

    def reduce(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """A sum, mean, product or extreme over axes."""
        axes = whole([axis + lead for axis in op.attributes["axes"]])
        return self.nodes.add(REDUCTIONS[op.attributes["function"]], *inputs, axes, keepdims=int(op.attributes["keep"]))

    def softmax(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """Softmax or its logarithm."""
        kind = "LogSoftmax" if op.attributes["log"] else "Softmax"
        return self.nodes.add(kind, *inputs, axis=op.attributes["axis"] + lead)

    def normalize(self, op: Operation, inputs: tuple[str, ...], shapes: list[Shape], lead: int) -> str:
        """Layer normalization where it is over the last axis, which engines have as one operator; else its parts."""
        n, (x,), (shape,), a = self.nodes.add, inputs, shapes, op.attributes
        if a["center"] and a["axes"] == [len(shape) - 1]:
            return n("LayerNormalization", x, np.ones(shape[-1], np.float32), axis=-1, epsilon=a["epsilon"])
        axes = whole([axis + lead for axis in a["axes"]])
        if a["center"]:
            x = n("Sub", x, n("ReduceMean", x, axes))
        square = n("ReduceMean", n("Mul", x, x), axes)
        return n("Div", x, n("Sqrt", n("Add", square, np.float32(a["epsilon"]))))

    def matmul(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], _lead: int) -> str:
        """Products of matrices."""
        return self.nodes.add("MatMul", *(self.lifted(name, len(op.shape)) for name in inputs))

    def reshape(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """The same elements in another shape."""
        return self.nodes.add("Reshape", *inputs, whole([-1][:lead] + list(op.shape)))

    def permute(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """The same elements with the axes in another order."""
        order = [0][:lead] + [axis + lead for axis in op.attributes["order"]]
        return self.nodes.add("Transpose", *inputs, perm=order)

    def slice(self, op: Operation, inputs: tuple[str, ...], shapes: list[Shape], lead: int) -> str:
        """A part of a value."""
        starts, sizes, steps = (op.attributes[name] for name in ("starts", "sizes", "steps"))
        ends = [start + (size - 1) * step + 1 for start, size, step in zip(starts, sizes, steps, strict=True)]
        axes = whole(range(lead, len(shapes[0]) + lead))
        return self.nodes.add("Slice", *inputs, whole(starts), whole(ends), axes, whole(steps))

    def expand(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """Repeats axes of size 1; the batch axis stays."""
        return self.nodes.add("Expand", self.lifted(inputs[0], len(op.shape)), whole([1][:lead] + list(op.shape)))

    def join(self, op: Operation, inputs: tuple[str, ...], _shapes: list[Shape], lead: int) -> str:
        """A concatenation."""
        parts = [self.batched(name) for name in inputs] if lead else inputs
        return self.nodes.add("Concat", *parts, axis=op.attributes["axis"] + lead)

    def pad(self, op: Operation, inputs: tuple[str, ...], shapes: list[Shape], lead: int) -> str:
        """Elements between others by a new axis, then a part, then elements around it."""
        n, (x,), rank, batch = self.nodes.add, inputs, len(shapes[0]), [-1][:lead]
        steps, value = padding_steps(op, shapes[0]), np.float32(op.attributes["value"])
        if steps.split is not None:
            x = n("Reshape", x, whole([*batch, *steps.split]))
            after = [0] * lead + [entry for between in steps.between for entry in (0, between)]
            x = n("Pad", x, whole([0] * len(after) + after), value)
            x = n("Reshape", x, whole([*batch, *steps.joined]))
        if any(steps.starts) or steps.ends != steps.joined:
            x = n("Slice", x, whole(steps.starts), whole(steps.ends), whole(range(lead, rank + lead)))
        none = [0] * lead
        return n("Pad", x, whole([*none, *steps.low, *none, *steps.high]), value)

    def sample(self, op: Operation, inputs: tuple[str, ...], shapes: list[Shape], lead: int) -> str:
        """All taps by one index of two axes, of which the first is then reduced."""
        n, axis = self.nodes.add, op.attributes["axis"] + lead
        index, weight = op.tensors["index"].astype(np.int64), op.tensors.get("weight")
        if len(index) == 1 and weight is None:
            return n("Gather", *inputs, index[0], axis=axis)
        taken: Any = n("Gather", *inputs, index, axis=axis)
        if weight is not None:
            taken = n("Mul", taken, weight.reshape(*weight.shape, *[1] * (len(shapes[0]) + lead - 1 - axis)))
        kind = "ReduceMax" if op.attributes["function"] == "max" else "ReduceSum"
        return n(kind, taken, whole([axis]), keepdims=0)
