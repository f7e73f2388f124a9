"""The calls of C operators that compute operations on arrays; `biper.targets.c.layout` says where elements lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations.arithmetic import UNARY
from biper.runtime.program import Operation, Shape
from biper.targets.c.array_functions import REDUCTIONS
from biper.targets.c.fixed_arrays import reduced_count
from biper.targets.c.fixed_point import FixedOperation
from biper.targets.c.instructions import array_parts
from biper.targets.c.layout import (
    Loop,
    Strides,
    broadcast_strides,
    common_axes,
    loops,
    places_of,
    same_order,
    strides_of,
)
from biper.targets.c.text import number


class Writer(Protocol):
    """What writes tables and calls: `biper.targets.c.calls.OperatorCalls`."""

    shapes: dict[str, Shape]

    def address(self, value: str, offset: int = 0) -> str:
        """The C expression of the address of an element of a value."""

    def table(self, index: int, what: str, numbers: NDArray[Any]) -> str:
        """Define a constant array; returns its name."""

    def describe(
        self, index: int, op: Operation, operator: str, fields: Mapping[str, Any], parts: Mapping[str, float], part: int
    ) -> None:
        """Write a call of an operator whose description has these fields; ``parts`` are those of `array_parts`."""

    def use_function(self, kind: str, name: str) -> str:
        """The name of a function of one or of two values, which is then written."""


class ArrayCalls:
    """Writes the calls of operations on arrays: one method for each operation, by its name.

    Args:
        writer: what writes tables and calls.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.nests: list[Sequence[Loop]] = []

    def add(self, index: int, step: FixedOperation) -> None:
        """Write the tables and the calls of one operation, which is not a constant.

        Args:
            index: its number.
            step: the operation; in float32, only `FixedOperation.op` of it is used.
        """
        op, self.step, self.index = step.op, step, index
        shapes = [self.writer.shapes[name] for name in op.inputs]
        getattr(self, f"{op.operation}_call")(index, op, shapes)

    def write(self, index: int, op: Operation, operator: str, fields: Mapping[str, Any], part: int = 0) -> None:
        """Write a call of an operator whose description has these fields, and the nests made since the last call."""
        self.writer.describe(index, op, operator, fields, array_parts(operator, fields, self.nests), part)
        self.nests = []

    def nest(self, index: int, what: str, rows: Sequence[Loop], operands: int) -> str:
        """The initializer of nested loops."""
        self.nests.append(rows)
        if not rows:
            return "{0, 0, 0}"
        name = self.writer.table(index, what, np.array(rows, np.int32))
        return f"{{{name}, {len(rows)}, {operands}}}"

    def elementwise(
        self, index: int, op: Operation, operator: str, names: Mapping[str, Strides], fields: dict[str, Any]
    ) -> None:
        """Write an operator whose innermost loop has its own fields; ``names`` has the strides of each operand."""
        rows = loops(op.shape, *names.values())
        size, *steps = rows.pop() if rows else (1, *[0] * len(names))
        fields["size"] = size
        fields |= {f"{name}_step": step for name, step in zip(names, steps, strict=True)}
        fields["nest"] = self.nest(index, "axes", rows, len(names))
        self.write(index, op, operator, fields)

    def unary_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A function of each element."""
        fields = {"in": self.writer.address(op.inputs[0]), "out": self.writer.address(op.real or "")}
        fields |= self.function_fields()
        self.elementwise(index, op, "unary", {"in": strides_of(shapes[0]), "out": strides_of(op.shape)}, fields)

    def function_fields(self) -> dict[str, Any]:
        """The function of one value, and its parameters."""
        function = self.step.op.attributes["function"]
        fields = {"function": self.writer.use_function("unary", function)}
        numbers = [number(np.float32(self.step.op.attributes[name])) for name in UNARY[function][0]]
        return fields | ({"p": f"{{{', '.join(numbers)}}}"} if numbers else {})

    def binary_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A function of two values that are broadcast together."""
        fields = {key: self.writer.address(name) for key, name in zip(("left", "right"), op.inputs, strict=True)}
        fields["out"] = self.writer.address(op.real or "")
        fields |= self.two_values_fields()
        left, right = (broadcast_strides(shape, op.shape) for shape in shapes)
        strides = {"left": left, "right": right, "out": strides_of(op.shape)}
        self.elementwise(index, op, "binary", strides, fields)

    def two_values_fields(self) -> dict[str, Any]:
        """The function of two values."""
        return {"function": self.writer.use_function("binary", self.step.op.attributes["function"])}

    def select_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A choice of two values."""
        names = ("condition", "yes", "no")
        fields = {key: self.writer.address(name) for key, name in zip(names, op.inputs, strict=True)}
        fields |= {"out": self.writer.address(op.real or ""), **self.choice_fields()}
        strides = [broadcast_strides(shape, op.shape) for shape in shapes]
        fields["nest"] = self.nest(index, "axes", loops(op.shape, *strides, strides_of(op.shape)), 4)
        self.write(index, op, "choose", fields)

    def choice_fields(self) -> dict[str, Any]:
        """Nothing: values are chosen as they are."""
        return {}

    def reduce_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A sum, mean, product or extreme over axes."""
        (shape,), axes = shapes, op.attributes["axes"]
        strides = strides_of(shape)
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        out = strides_of(op.shape)
        steps = [out[axis] for axis in kept] if op.attributes["keep"] else list(out)
        outer = loops([shape[axis] for axis in kept], [strides[axis] for axis in kept], steps)
        inner = loops([shape[axis] for axis in axes], [strides[axis] for axis in axes])
        fields = {
            "in": self.writer.address(op.inputs[0]),
            "out": self.writer.address(op.real or ""),
            **self.reduction_fields(),
            "nest": self.nest(index, "axes", outer, 2),
            "within": self.nest(index, "within", inner, 1),
        }
        self.write(index, op, "reduce", fields)

    def reduced(self) -> int:
        """How many elements an operation over axes combines."""
        return reduced_count(self.step.op, self.writer.shapes[self.step.op.inputs[0]])

    def reduction_fields(self) -> dict[str, Any]:
        """The function by which elements are reduced, and by what the result is divided."""
        function = self.step.op.attributes["function"]
        divisor = number(np.float32(self.reduced() if function == "mean" else 1))
        return {"function": self.writer.use_function("binary", REDUCTIONS[function]), "divisor": divisor}

    def softmax_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """Softmax or its logarithm."""
        fields = self.along(index, op, shapes[0], op.attributes["axis"])
        self.write(index, op, "softmax", fields | self.softmax_fields())

    def softmax_fields(self) -> dict[str, Any]:
        """Whether it is the logarithm."""
        return {"logarithm": int(self.step.op.attributes["log"])}

    def along(self, index: int, op: Operation, shape: Shape, axis: int) -> dict[str, Any]:
        """The fields of an operator that works along one axis."""
        strides, out = strides_of(shape), strides_of(op.shape)
        others = [each for each in range(len(shape)) if each != axis]
        rows = loops(*([each[other] for other in others] for each in (shape, strides, out)))
        return {
            "in": self.writer.address(op.inputs[0]),
            "out": self.writer.address(op.real or ""),
            "size": op.shape[axis],
            "in_step": strides[axis],
            "out_step": out[axis],
            "nest": self.nest(index, "axes", rows, 2),
        }

    def normalize_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """Normalization over axes."""
        (shape,), axes, strides = shapes, op.attributes["axes"], strides_of(shapes[0])
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        outer, inner = (
            loops([shape[axis] for axis in chosen], *[[strides[axis] for axis in chosen]] * 2)
            for chosen in (kept, axes)
        )
        fields = {
            "in": self.writer.address(op.inputs[0]),
            "out": self.writer.address(op.real or ""),
            **self.normalization_fields(),
            "nest": self.nest(index, "axes", outer, 2),
            "within": self.nest(index, "within", inner, 2),
        }
        self.write(index, op, "normalize", fields)

    def normalization_fields(self) -> dict[str, Any]:
        """How many elements are normalized together, epsilon, and whether their mean is subtracted."""
        get, count = self.step.op.attributes, number(np.float32(self.reduced()))
        return {"count": count, "epsilon": number(np.float32(get["epsilon"])), "center": int(get["center"])}

    def matmul_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """Products of matrices."""
        left, right = shapes
        batch = op.shape[:-2]
        a, b = (broadcast_strides(shape, (*batch, *shape[-2:])) for shape in shapes)
        out = strides_of(op.shape)
        fields = {
            "left": self.writer.address(op.inputs[0]),
            "right": self.writer.address(op.inputs[1]),
            "out": self.writer.address(op.real or ""),
            **self.product_fields(),
            "rows": left[-2],
            "columns": right[-1],
            "inner": left[-1],
            "left_row": a[-2],
            "left_inner": a[-1],
            "right_inner": b[-2],
            "right_column": b[-1],
            "out_row": out[-2],
            "out_column": out[-1],
            "nest": self.nest(index, "axes", loops(batch, a[:-2], b[:-2], out[:-2]), 3),
        }
        self.write(index, op, "matmul", fields)

    def product_fields(self) -> dict[str, Any]:
        """Nothing: sums are the results."""
        return {}

    def copy(
        self, index: int, op: Operation, sizes: Shape, steps: tuple[Strides, Strides], starts: tuple[int, int] = (0, 0),
        part: int = 0,
    ) -> None:  # fmt: skip
        """Write a copy of ``sizes`` elements along each axis.

        Args:
            index, op: the operation.
            sizes: how many elements are copied along each axis.
            steps: of the input and of the result along each axis.
            starts: the offsets of the first element in the input and in the result.
            part: the number of the input.
        """
        rows = loops(sizes, *steps)
        size, in_step, out_step = rows.pop() if rows else (1, 0, 0)
        fields = {
            "in": self.writer.address(op.inputs[part], starts[0]),
            "out": self.writer.address(op.real or "", starts[1]),
            "size": size,
            "in_step": in_step,
            "out_step": out_step,
            "nest": self.nest(index, f"axes{part or ''}", rows, 2),
        }
        if any(self.step.up):
            fields["up"] = self.step.up[part]
        self.write(index, op, "copy", fields, part)

    def reshape_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A copy between two orders of elements; nothing where the result is in the place of the input."""
        there = self.writer.address(op.inputs[0]) == self.writer.address(op.real or "")
        if there and same_order(shapes[0], op.shape):
            return
        common = common_axes(shapes[0], op.shape)
        if common is not None:
            self.copy(index, op, *common)
            return
        size = math.prod(op.shape)
        order = places_of(shapes[0])[np.argsort(places_of(op.shape))]
        fields = {"in": self.writer.address(op.inputs[0]), "out": self.writer.address(op.real or ""), "taps": 1}
        fields |= {"size": size, "in_step": 1, "out_step": 1, "index": self.writer.table(index, "index", order)}
        self.write(index, op, "sample", fields)

    def permute_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A copy with the axes in another order."""
        strides = strides_of(shapes[0])
        self.copy(index, op, op.shape, (tuple(strides[axis] for axis in op.attributes["order"]), strides_of(op.shape)))

    def slice_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A copy of a part."""
        strides = strides_of(shapes[0])
        start = sum(step * first for step, first in zip(strides, op.attributes["starts"], strict=True))
        steps = tuple(step * every for step, every in zip(strides, op.attributes["steps"], strict=True))
        self.copy(index, op, op.shape, (steps, strides_of(op.shape)), (start, 0))

    def expand_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A copy that reads axes of size 1 again and again."""
        self.copy(index, op, op.shape, (broadcast_strides(shapes[0], op.shape), strides_of(op.shape)))

    def join_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """A copy of each input to its part of the result."""
        out, axis, first = strides_of(op.shape), op.attributes["axis"], 0
        for part, shape in enumerate(shapes):
            self.copy(index, op, shape, (strides_of(shape), out), (0, first * out[axis]), part)
            first += shape[axis]

    def pad_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """The constant everywhere, then a copy of the elements that stay."""
        (shape,), out = shapes, strides_of(op.shape)
        out_address = self.writer.address(op.real or "")
        value = op.attributes["value"]
        value = number(np.float32(value) if isinstance(value, float) else np.int16(value))
        self.write(index, op, "fill", {"out": out_address, "size": math.prod(op.shape), "value": value}, 1)
        sizes, starts = [], [0, 0]
        spread = [between + 1 for between in op.attributes["interior"]]
        for axis, low in enumerate(op.attributes["low"]):
            first = max(-(low // spread[axis]), 0)
            last = min((op.shape[axis] - 1 - low) // spread[axis], shape[axis] - 1)
            sizes.append(max(last - first + 1, 0))
            starts[0] += first * strides_of(shape)[axis]
            starts[1] += (low + first * spread[axis]) * out[axis]
        if all(sizes):
            steps = tuple(step * every for step, every in zip(out, spread, strict=True))
            self.copy(index, op, tuple(sizes), (strides_of(shape), steps), (starts[0], starts[1]))

    def sample_call(self, index: int, op: Operation, shapes: list[Shape]) -> None:
        """Weighted sums, or the largest, of the elements that an index names."""
        fields = self.along(index, op, shapes[0], op.attributes["axis"])
        fields["index"] = self.writer.table(index, "index", op.tensors["index"])
        fields |= self.sample_fields()
        fields["taps"] = len(op.tensors["index"])
        self.write(index, op, "sample", fields)

    def sample_fields(self) -> dict[str, Any]:
        """Weights, and whether the largest is taken."""
        tensors, largest = self.step.op.tensors, self.step.op.attributes["function"] == "max"
        weight = {"weight": self.writer.table(self.index, "weight", tensors["weight"])} if "weight" in tensors else {}
        return {"maximum": int(largest), **weight}
