"""Random programs of operations on arrays, for hypothesis: each operation, views of views, several results."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from biper.runtime.operations.arithmetic import UNARY
from biper.runtime.operations.reductions import REDUCTIONS
from biper.runtime.program import Operation, Program, Shape, write_program
from biper.runtime.reader import read_program

MOST = 4096
"""The most elements of a value of a random program."""

PARAMETERS = {
    "clip": {"low": -0.5, "high": 0.75},
    "elu": {"alpha": 1.5, "scale": 1.25, "input_scale": 0.75},
    "leaky_relu": {"slope": 0.125},
    "power": {"exponent": 2.0},
    "softplus": {"beta": 2.0, "threshold": 3.0},
}
"""Parameters for functions of one value that have some."""

JUMPING = {"ceil", "floor", "round", "sign"}
UNBOUNDED = {"exp", "expm1", "log", "log1p", "power", "reciprocal", "rsqrt", "sqrt"}
SMOOTH = sorted(set(UNARY) - JUMPING - UNBOUNDED)
"""Functions that make neither a value nor a rounding error much larger."""

SMOOTH_PAIRS = ("add", "maximum", "minimum", "multiply", "subtract")


def array_operation(
    kind: str, reads: list[str], real: str, tensors: dict | None = None, **attributes: object
) -> Operation:
    """An operation on arrays. The reader derives its shape."""
    return Operation(kind, "test", tuple(reads), (), real=real, attributes=attributes, tensors=tensors or {})


class Drawing:
    """A program that grows by random operations."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.random = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
        channels, height, width = (draw(st.integers(1, high)) for high in (40, 6, 6))
        self.shapes: dict[str, Shape] = {"image": (channels, height, width)}
        self.inputs = {"other": self.shape()} if draw(st.booleans()) else {}
        self.shapes |= self.inputs
        self.operations: list[Operation] = []

    def shape(self) -> Shape:
        return tuple(self.draw(st.lists(st.integers(1, 5), max_size=5)))

    def value(self, accept: Callable[[Shape], bool] = lambda _shape: True) -> str | None:
        names = [name for name, shape in self.shapes.items() if accept(shape)]
        # Later values more often, so that views of views and chains arise.
        return self.draw(st.sampled_from(names[-3:] * 3 + names)) if names else None

    def add(
        self, kind: str, reads: list[str], shape: Shape, tensors: dict | None = None, /, **attributes: object
    ) -> str:
        """Add an operation and return its result, or the first value that it reads if the result were too large."""
        name = f"v{len(self.operations)}"
        if math.prod(shape) <= MOST:
            self.operations.append(array_operation(kind, reads, name, tensors, **attributes))
            self.shapes[name] = tuple(shape)
            return name
        return reads[0]

    def numbers(self, shape: Shape) -> NDArray[np.float32]:
        return self.random.standard_normal(shape).astype(np.float32)

    def constant(self, shape: Shape | None = None) -> str:
        shape = self.shape() if shape is None else shape
        return self.add("constant", [], shape, {"value": self.numbers(shape)})

    def broadcastable(self, shape: Shape) -> str:
        """A value that can be broadcast to the shape: an earlier one, or a constant."""
        fits = [name for name, other in self.shapes.items() if _fits(other, shape)]
        if fits and self.draw(st.booleans()):
            return self.draw(st.sampled_from(fits[-4:]))
        cut = shape[self.draw(st.integers(0, len(shape))) :]
        return self.constant(tuple(self.draw(st.sampled_from([1, size])) for size in cut))

    def step(self) -> None:
        kinds = [
            "unary", "binary", "select", "reduce", "softmax", "normalize", "matmul", "reshape", "permute", "slice",
            "expand", "join", "pad", "sample", "elementwise", "constant",
        ]  # fmt: skip
        getattr(self, f"add_{self.draw(st.sampled_from(kinds))}")()

    def add_constant(self) -> None:
        self.constant()

    def add_unary(self) -> None:
        name = self.value()
        function = self.draw(st.sampled_from(SMOOTH))
        assert name is not None
        self.add("unary", [name], self.shapes[name], function=function, **PARAMETERS.get(function, {}))

    def add_binary(self) -> None:
        name = self.value()
        assert name is not None
        pair = [name, self.broadcastable(self.shapes[name])]
        if self.draw(st.booleans()):
            pair.reverse()
        self.add("binary", pair, self.shapes[name], function=self.draw(st.sampled_from(SMOOTH_PAIRS)))

    def add_select(self) -> None:
        name = self.value()
        assert name is not None
        shape = self.shapes[name]
        mask = self.add("constant", [], shape, {"value": self.random.integers(0, 2, shape).astype(np.float32)})
        self.add("select", [mask, name, self.broadcastable(shape)], shape)

    def axes(self, shape: Shape) -> list[int]:
        return sorted(self.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))

    def add_reduce(self) -> None:
        if name := self.value(lambda shape: len(shape) > 0):
            shape, keep = self.shapes[name], self.draw(st.booleans())
            axes, function = self.axes(shape), self.draw(st.sampled_from(sorted(set(REDUCTIONS) - {"product"})))
            sizes = [1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes]
            self.add("reduce", [name], tuple(sizes), function=function, axes=axes, keep=keep)

    def add_softmax(self) -> None:
        if name := self.value(lambda shape: len(shape) > 0):
            axis = self.draw(st.integers(0, len(self.shapes[name]) - 1))
            self.add("softmax", [name], self.shapes[name], axis=axis, log=self.draw(st.booleans()))

    def add_normalize(self) -> None:
        if name := self.value(lambda shape: len(shape) > 0):
            axes = self.axes(self.shapes[name])
            center = self.draw(st.booleans())
            self.add("normalize", [name], self.shapes[name], axes=axes, center=center, epsilon=0.25)

    def add_matmul(self) -> None:
        if name := self.value(lambda shape: len(shape) >= 2 and math.prod(shape[:-2]) * shape[-1] <= MOST // 40):
            shape = self.shapes[name]
            inside, columns = shape[-1], self.draw(st.integers(1, 40))
            stacks = shape[self.draw(st.integers(0, len(shape) - 2)) : -2]
            right = self.constant((*stacks, inside, columns))
            if self.draw(st.booleans()):
                order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
                right = self.add("permute", [name], tuple(shape[i] for i in order), order=order)
            self.add("matmul", [name, right], (*shape[:-1], self.shapes[right][-1]))

    def add_reshape(self) -> None:
        name = self.value()
        assert name is not None
        left, sizes = math.prod(self.shapes[name]), []
        while left > 1 and len(sizes) < 4 and self.draw(st.booleans()):
            sizes.append(self.draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
            left //= sizes[-1]
        shape = (*sizes, left) if left > 1 or self.draw(st.booleans()) else tuple(sizes)
        self.add("reshape", [name], shape, shape=list(shape))

    def add_permute(self) -> None:
        name = self.value()
        assert name is not None
        order = self.draw(st.permutations(range(len(self.shapes[name]))))
        self.add("permute", [name], tuple(self.shapes[name][i] for i in order), order=list(order))

    def add_slice(self) -> None:
        name = self.value()
        assert name is not None
        starts, sizes, steps = [], [], []
        for size in self.shapes[name]:
            starts.append(self.draw(st.integers(0, min(2, size - 1))))
            steps.append(self.draw(st.integers(1, 3)))
            most = (size - 1 - starts[-1]) // steps[-1] + 1
            sizes.append(self.draw(st.sampled_from([most, (most + 1) // 2])))
        self.add("slice", [name], tuple(sizes), starts=starts, sizes=sizes, steps=steps)

    def add_expand(self) -> None:
        name = self.value(lambda shape: len(shape) < 5)
        assert name is not None
        shape = [size if size > 1 else self.draw(st.integers(1, 4)) for size in self.shapes[name]]
        shape = self.draw(st.lists(st.integers(1, 3), max_size=1)) + shape
        self.add("expand", [name], tuple(shape), shape=shape)

    def add_join(self) -> None:
        if name := self.value(lambda shape: len(shape) > 0):
            shape = self.shapes[name]
            axis = self.draw(st.integers(0, len(shape) - 1))
            other = self.constant((*shape[:axis], self.draw(st.integers(1, 3)), *shape[axis + 1 :]))
            reads = self.draw(st.permutations([name, other, name]))
            total = sum(self.shapes[read][axis] for read in reads)
            self.add("join", list(reads), (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)

    def add_pad(self) -> None:
        name = self.value()
        assert name is not None
        low, high, interior, sizes = [], [], [], []
        for size in self.shapes[name]:
            interior.append(self.draw(st.sampled_from([0, 0, 1, 2])))
            spread = size + (size - 1) * interior[-1]
            low.append(self.draw(st.integers(-min(2, spread - 1), 3)))
            spread += min(low[-1], 0)
            high.append(self.draw(st.integers(-min(2, spread - 1), 3)))
            sizes.append(size + (size - 1) * interior[-1] + low[-1] + high[-1])
        self.add("pad", [name], tuple(sizes), low=low, high=high, interior=interior, value=0.5)

    def add_sample(self) -> None:
        if name := self.value(lambda shape: len(shape) > 0):
            shape = self.shapes[name]
            axis = self.draw(st.integers(0, len(shape) - 1))
            size = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 6))
            tensors = {"index": self.random.integers(0, shape[axis], size).astype(np.int32)}
            function = self.draw(st.sampled_from(["sum", "max"]))
            if function == "sum" and self.draw(st.booleans()):
                tensors["weight"] = self.numbers(size)
            result = (*shape[:axis], size[1], *shape[axis + 1 :])
            self.add("sample", [name], result, tensors, axis=axis, function=function)

    def add_elementwise(self) -> None:
        """An operation on images, with another image as residual where there is one."""
        if name := self.value(lambda shape: len(shape) == 3):
            shape = self.shapes[name]
            others = [None, *(other for other, size in self.shapes.items() if size == shape)]
            made = f"v{len(self.operations)}"
            tensors = {"offset": self.numbers((shape[0],))}
            residual = self.draw(st.sampled_from(others))
            self.operations.append(
                Operation("elementwise", "test", (name,), (), real=made, residual=residual, tensors=tensors)
            )
            self.shapes[made] = shape

    def program(self) -> Program:
        names = list(self.shapes)
        chosen = [names[-1], *self.draw(st.lists(st.sampled_from(names), max_size=3))]
        channels = self.shapes["image"][0]
        outputs = {f"result {i}": name for i, name in enumerate(chosen)} if self.draw(st.booleans()) else {}
        program = Program(
            self.shapes["image"], (0.0,) * channels, (1.0,) * channels, (), chosen[0], tuple(self.operations), outputs,
            self.inputs,
        )  # fmt: skip
        return read_program(write_program(program))


def _fits(shape: Shape, target: Shape) -> bool:
    """Whether an array of the shape can be broadcast to the target."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, other) for size, other in pairs)


@st.composite
def array_programs(draw: st.DrawFn) -> tuple[Program, NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """A random program with operations on arrays, images for it and its other inputs."""
    drawing = Drawing(draw)
    for _ in range(draw(st.integers(0, 9))):
        drawing.step()
    program = drawing.program()
    images = drawing.numbers((2, *program.input_shape))
    return program, images, {name: drawing.numbers((2, *shape)) for name, shape in program.inputs.items()}
