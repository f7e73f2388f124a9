"""Small packed programs with every operation on arrays, on values of rank 0 to 5; most values are results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations.arithmetic import BINARY, UNARY
from biper.runtime.operations.reductions import REDUCTIONS
from biper.runtime.program import Operation, Program, Shape, write_program
from biper.runtime.reader import read_program
from biper.targets.c.layout import places_of
from support.programs import PADDED, PLAIN, random_bits

PARAMETERS = {
    "clip": {"low": -0.7, "high": 0.9},
    "elu": {"alpha": 1.3, "scale": 1.1, "input_scale": 0.8},
    "leaky_relu": {"slope": 0.1},
    "power": {"exponent": 1.7},
    "softplus": {"beta": 2.0, "threshold": 1.0},
}
"""Parameters of the unary functions that have some."""

POSITIVE = ("log", "log1p", "power", "reciprocal", "rsqrt", "sqrt")
"""The unary functions that are computed of positive numbers."""


class Builder:
    """Collects operations; each method returns the name of the value that it makes."""

    def __init__(self, shape: Shape, inputs: Mapping[str, Shape] | None = None) -> None:
        self.shape, self.inputs = shape, inputs or {}
        self.operations: list[Operation] = []
        self.results: dict[str, str] = {}

    def add(
        self, kind: str, *reads: str, tensors: Mapping[str, NDArray] | None = None, residual: str | None = None, **rest
    ) -> str:
        """Add an operation whose attributes are ``rest``."""
        name = f"v{len(self.operations)}"
        self.operations.append(
            Operation(kind, "test", reads, (), name, residual=residual, attributes=rest, tensors=tensors or {})
        )
        return name

    def constant(self, value: object) -> str:
        """Add a constant."""
        return self.add("constant", tensors={"value": np.array(value, np.float32)})

    def bits(self, reads: str) -> str:
        """Add the signs of an image."""
        name = f"v{len(self.operations)}"
        self.operations.append(Operation("elementwise", "test", (reads,), (), bits=name))
        return name

    def result(self, name: str, value: str) -> None:
        """Make a value a result of the program."""
        self.results[name] = value

    def program(self) -> Program:
        """The program, written and read again, so that the reader has checked it and derived its shapes."""
        channels = self.shape[0]
        first = next(iter(self.results.values()))
        several = self.results if len(self.results) > 1 else {}
        mean, std = (0.5,) * channels, (0.25,) * channels
        made = Program(self.shape, mean, std, (), first, tuple(self.operations), several, self.inputs)
        return read_program(write_program(made))


def array_programs() -> dict[str, Program]:
    """Programs that together have every operation on arrays and every function, by name."""
    made = (_unary, _binary, _compare, _reduce, _softmax, _matmul, _moves, _pads, _samples, _network, _inputs)
    return {function.__name__[1:]: function().program() for function in made}


def with_results(program: Program, keys: Sequence[str]) -> Program:
    """The part of a program that some of its results need."""
    results = {key: value for key, value in program.results.items() if key in keys}
    wanted, kept = set(results.values()), []
    for op in reversed(program.operations):
        if {op.real, op.bits} & wanted:
            kept.append(op)
            wanted |= {*op.inputs, op.residual} - {None}
    first = next(iter(results.values()))
    several = results if len(results) > 1 else {}
    return replace(program, operations=tuple(reversed(kept)), output=first, outputs=several)


def _unary() -> Builder:
    b = Builder((2, 3, 4))
    large = b.add("binary", "image", b.constant(3), function="multiply")
    positive = b.add("binary", b.add("unary", "image", function="abs"), b.constant([0.5]), function="add")
    for function in UNARY:
        reads = positive if function in POSITIVE else large
        b.result(function, b.add("unary", reads, function=function, **PARAMETERS.get(function, {})))
    for name, rest in {
        "softplus of torch": {"function": "softplus", "beta": 1.0, "threshold": 20.0},
        "elu of torch": {"function": "elu", "alpha": 1.0, "scale": 1.0, "input_scale": 1.0},
        "clip from below": {"function": "clip", "low": 0.0, "high": 1e29},
        "square": {"function": "power", "exponent": 2.0},
    }.items():
        b.result(name, b.add("unary", large, **rest))
    halves = b.constant([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 3.5, 1e9])
    for function in ("round", "floor", "ceil", "sign"):
        b.result(f"{function} of halves", b.add("unary", halves, function=function))
    return b


def _binary() -> Builder:
    b = Builder((3, 2, 4))
    shapes = [(), (1,), (4,), (2, 1), (3, 1, 1), (1, 2, 4), (2, 1, 1, 4), (2, 2, 3, 1, 4), (1, 3, 2, 4)]
    numbers = {shape: b.constant(_random(shape) + np.float32(0.1)) for shape in shapes}
    positive = b.add("unary", "image", function="abs")
    for place, function in enumerate(BINARY):
        left = positive if function == "power" else "image"
        for shape in (shapes[place % len(shapes)], shapes[(place + 4) % len(shapes)]):
            b.result(f"{function} {shape}", b.add("binary", left, numbers[shape], function=function))
    b.result("constant first", b.add("binary", numbers[4,], "image", function="subtract"))
    b.result("itself", b.add("binary", "image", "image", function="multiply"))
    row = b.add("slice", "image", starts=[1, 0, 0], sizes=[1, 1, 4], steps=[1, 1, 1])
    flat = b.add("reshape", row, shape=[4])
    b.result("lower rank", b.add("binary", flat, "image", function="add"))
    b.result("outer", b.add("binary", flat, b.add("reshape", flat, shape=[4, 1]), function="multiply"))
    five = b.add("reshape", "image", shape=[3, 1, 2, 1, 4])
    b.result("rank 5", b.add("binary", five, numbers[2, 1, 1, 4], function="add"))
    gate = b.add("reduce", "image", function="mean", axes=[1, 2], keep=True)
    b.result("gate", b.add("binary", "image", gate, function="multiply"))
    constants = b.add("binary", numbers[4,], numbers[2, 1], function="maximum")
    b.result("of constants", constants)
    return b


def _compare() -> Builder:
    b = Builder((2, 2, 3))
    whole = b.add("unary", "image", function="round")
    for function in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"):
        b.result(function, b.add("binary", whole, b.constant([[0.0, 1.0, -1.0]]), function=function))
    mask = b.add("binary", whole, b.constant(0), function="greater")
    b.result("select", b.add("select", mask, "image", b.constant(-9)))
    b.result("select by image", b.add("select", whole, b.constant(_random((2, 1, 1, 3))), "image"))
    row = b.add("reduce", "image", function="max", axes=[0, 1], keep=False)
    b.result("select by constant", b.add("select", b.constant([1, 0, 2]), row, "image"))
    return b


def _reduce() -> Builder:
    b = Builder((3, 4, 5))
    five = b.add("reshape", "image", shape=[1, 3, 2, 2, 5])
    cases: list[tuple[str, list[int], bool]] = [
        ("image", [1, 2], True), ("image", [0], False), ("image", [0, 1, 2], False), (five, [1, 3], False),
        (five, [2], True), (five, [0], False), (five, [0, 1, 2, 3, 4], True),
    ]  # fmt: skip
    for function in REDUCTIONS:
        for value, axes, keep in cases:
            made = b.add("reduce", value, function=function, axes=axes, keep=keep)
            b.result(f"{function} {len(b.results)}", made)
    scalar = b.add("reduce", "image", function="sum", axes=[0, 1, 2], keep=False)
    b.result("of a scalar", b.add("unary", scalar, function="tanh"))
    fixed = b.constant(_random((2, 3)))
    b.result("of a constant", b.add("reduce", fixed, function="mean", axes=[1], keep=False))
    return b


def _softmax() -> Builder:
    b = Builder((4, 3, 5))
    four = b.add("reshape", "image", shape=[1, 4, 5, 3])
    for value, axis, log in [("image", 0, False), ("image", 2, True), (four, 3, False), (four, 1, True)]:
        b.result(f"softmax {len(b.results)}", b.add("softmax", value, axis=axis, log=log))
    for value, axes in [("image", [0, 1, 2]), ("image", [2]), (four, [1]), (four, [0, 3]), (four, [3])]:
        for center in (True, False):
            made = b.add("normalize", value, axes=axes, center=center, epsilon=1e-3)
            b.result(f"normalize {len(b.results)}", made)
    hidden = b.add("select", b.constant([1, 0, 1, 1, 0]), "image", b.constant(-np.inf))
    b.result("softmax of some", b.add("softmax", hidden, axis=2, log=False))
    b.result("smaller than infinity", b.add("binary", "image", b.constant([np.inf]), function="minimum"))
    return b


def _matmul() -> Builder:
    b = Builder((3, 4, 5))
    b.result("by a constant", b.add("matmul", "image", b.constant(_random((5, 2)))))
    b.result("constant first", b.add("matmul", b.constant(_random((2, 4))), "image"))
    b.result("stack of constants", b.add("matmul", "image", b.constant(_random((2, 1, 5, 3)))))
    turned = b.add("permute", "image", order=[0, 2, 1])
    b.result("with itself", b.add("matmul", "image", turned))
    matrix = b.add("reshape", "image", shape=[12, 5])
    b.result("two ranks", b.add("matmul", b.add("slice", matrix, starts=[1, 0], sizes=[2, 4], steps=[3, 1]), "image"))
    heads = b.add("permute", b.add("reshape", matrix, shape=[1, 3, 4, 5]), order=[0, 2, 1, 3])
    keys = b.add("permute", heads, order=[0, 1, 3, 2])
    scores = b.add("softmax", b.add("matmul", heads, keys), axis=3, log=False)
    b.result("attention", b.add("matmul", scores, heads))
    b.result("of constants", b.add("matmul", b.constant(_random((2, 3))), b.constant(_random((3, 4)))))
    return b


def _moves() -> Builder:
    b = Builder((4, 2, 3))
    image = "image"
    b.result("permute 3", b.add("permute", image, order=[2, 0, 1]))
    b.result("reshape 2", b.add("reshape", image, shape=[4, 6]))
    b.result("reshape without common axes", b.add("reshape", image, shape=[3, 8]))
    four = b.add("reshape", image, shape=[1, 4, 2, 3])
    b.result("permute 4", b.add("permute", four, order=[0, 2, 3, 1]))
    shuffled = b.add("permute", b.add("reshape", four, shape=[1, 2, 2, 2, 3]), order=[0, 2, 1, 3, 4])
    b.result("channel shuffle", b.add("reshape", shuffled, shape=[1, 4, 2, 3]))
    pixels = b.add("permute", b.add("reshape", four, shape=[1, 2, 2, 2, 3]), order=[0, 3, 1, 4, 2])
    b.result("pixel shuffle", b.add("reshape", pixels, shape=[1, 1, 4, 6]))
    b.result(
        "rank 0", b.add("reshape", b.add("slice", image, starts=[1, 1, 1], sizes=[1, 1, 1], steps=[1, 1, 1]), shape=[])
    )
    b.result("slice", b.add("slice", image, starts=[1, 0, 0], sizes=[2, 1, 2], steps=[2, 1, 2]))
    b.result(
        "expand", b.add("expand", b.add("reduce", image, function="max", axes=[1, 2], keep=True), shape=[5, 4, 2, 3])
    )
    b.result("expand of a constant", b.add("expand", b.constant([1, 2]), shape=[3, 2]))
    part = b.add("slice", image, starts=[0, 0, 1], sizes=[4, 2, 2], steps=[1, 1, 1])
    b.result("join", b.add("join", image, part, b.constant(_random((4, 2, 1))), axis=2))
    b.result("join rank 1", b.add("join", b.add("reshape", part, shape=[16]), b.constant([7.0]), axis=0))
    b.result("join itself", b.add("join", image, image, axis=0))
    b.result("permuted constant", b.add("permute", b.constant(_random((2, 3))), order=[1, 0]))
    b.result("the image", image)
    b.result("the image again", image)
    return b


def _pads() -> Builder:
    b = Builder((2, 3, 4))
    four = b.add("reshape", "image", shape=[1, 2, 3, 4])
    for value, low, high, interior in [
        ("image", [0, 1, 2], [0, 2, 1], [0, 0, 0]),
        ("image", [0, 0, -1], [1, 0, -2], [0, 0, 0]),
        ("image", [0, 1, 0], [0, 0, 2], [0, 1, 2]),
        (four, [0, 0, -1, 1], [0, 0, -2, 3], [0, 1, 2, 1]),
        (four, [2, -1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]),
    ]:
        made = b.add("pad", value, low=low, high=high, interior=interior, value=0.5 if value == four else 0.0)
        b.result(f"pad {len(b.results)}", made)
    b.result("constant", b.add("pad", b.constant([1.0, 2.0]), low=[1], high=[0], interior=[1], value=-3.0))
    return b


def _samples() -> Builder:
    b = Builder((3, 4, 5))
    random = np.random.Generator(np.random.PCG64(3))
    four = b.add("reshape", "image", shape=[1, 3, 4, 5])
    for value, axis, size, taps, length, function, weighted in [
        ("image", 2, 5, 1, 7, "sum", False), ("image", 1, 4, 2, 9, "sum", True), ("image", 0, 3, 3, 2, "max", False),
        (four, 3, 5, 4, 3, "sum", True), (four, 2, 4, 2, 6, "sum", False), (four, 1, 3, 1, 3, "max", False),
    ]:  # fmt: skip
        tensors: dict[str, NDArray] = {"index": random.integers(0, size, (taps, length)).astype(np.int32)}
        if weighted:
            tensors["weight"] = random.standard_normal((taps, length)).astype(np.float32)
        made = b.add("sample", value, tensors=tensors, axis=axis, function=function)
        b.result(f"sample {len(b.results)}", made)
    flip = {"index": np.array([[2, 1, 0]], np.int32)}
    b.result("constant", b.add("sample", b.constant(_random((3, 2))), tensors=flip, axis=0, function="sum"))
    return b


def _network() -> Builder:
    """A convolutional network: images and arrays in turns, bits, a gate, a transposed convolution, a resize."""
    random = np.random.Generator(np.random.PCG64(4))
    b = Builder((3, 8, 6))

    def convolution(reads: str, out: int, inside: int, residual: str | None = None, **rest: object) -> str:
        tensors = {"weight": (random.standard_normal((out, inside, 3, 3)) / 4).astype(np.float32)}
        tensors["offset"] = random.standard_normal(out).astype(np.float32)
        return b.add("convolution", reads, tensors=tensors, residual=residual, **(PADDED | rest))

    first = convolution("image", 8, 3)
    arrays = b.add("reshape", first, shape=[1, 8, 8, 6])
    active = b.add("unary", arrays, function="hardswish")
    squeezed = b.add("reduce", active, function="mean", axes=[2, 3], keep=True)
    gate = b.add("unary", squeezed, function="sigmoid")
    gated = b.add("reshape", b.add("binary", active, gate, function="multiply"), shape=[8, 8, 6])
    signs = b.bits(gated)
    affine = {name: (random.standard_normal(8) / 9).astype(np.float32) for name in ("multiplier", "offset")}
    binary = b.add(
        "binary_convolution", signs, tensors=random_bits(random, 8, 8, 3, 3) | affine, residual=gated, **PADDED
    )
    low = [0, 0, 1, 1]
    padded = b.add("reshape", binary, shape=[1, 8, 8, 6])
    padded = b.add("pad", padded, low=low, high=low, interior=[0, 0, 1, 1], value=0.0)
    wide = convolution(b.add("reshape", padded, shape=[8, 17, 13]), 4, 8, stride=[2, 2])
    index = np.array([[0, 0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]], np.int32)
    weight = np.array([[1.0] + [0.25] * 7, [0.0] + [0.75] * 7], np.float32)
    resized = b.add("sample", wide, tensors={"index": index, "weight": weight}, axis=1, function="sum")
    last = convolution(resized, 4, 4, residual=resized)
    b.result("map", last)
    pooled = b.add("reduce", last, function="mean", axes=[1, 2], keep=False)
    b.result("probabilities", b.add("softmax", pooled, axis=0, log=False))
    bias = b.constant(_random((4, 8, 7)))
    b.result("with a constant", convolution(bias, 4, 4, residual=last))
    b.result("joined", b.add("concatenate", last, bias))
    return b


def _inputs() -> Builder:
    """A second and a third input, and results whose names are those of other values."""
    b = Builder((2, 3, 4), {"state": (5,), "scale": (2, 1, 1)})
    image = b.add("elementwise", "image", residual=None)
    scaled = b.add("binary", image, "scale", function="multiply")
    b.result("image", scaled)
    sums = b.add("binary", b.add("reduce", scaled, function="sum", axes=[0, 1, 2], keep=False), "state", function="add")
    b.result("v0", sums)
    b.result("next state", b.add("unary", sums, function="tanh"))
    weight = {"weight": np.ones((3, 2, 1, 1), np.float32)}
    b.result("a convolution", b.add("convolution", "scale", tensors=weight, **PLAIN))
    return b


def movement_program() -> Program:
    """A network whose operations on arrays move elements, which all targets have, integer-only C too."""
    random = np.random.Generator(np.random.PCG64(5))
    b = Builder((4, 6, 5))

    def convolution(reads: str, out: int, inside: int, residual: str | None = None) -> str:
        tensors = {"weight": (random.standard_normal((out, inside, 3, 3)) / 4).astype(np.float32)}
        tensors["offset"] = random.standard_normal(out).astype(np.float32)
        return b.add("convolution", reads, tensors=tensors, residual=residual, **PADDED)

    first = convolution("image", 4, 4)
    split = b.add("reshape", first, shape=[2, 2, 6, 5])
    shuffled = b.add("reshape", b.add("permute", split, order=[1, 0, 2, 3]), shape=[4, 6, 5])
    half = b.add("slice", shuffled, starts=[1, 0, 0], sizes=[2, 6, 5], steps=[2, 1, 1])
    flip = {"index": np.array([[4, 3, 2, 1, 0]], np.int32)}
    flipped = b.add("sample", half, tensors=flip, axis=2, function="sum")
    column = b.add("slice", "image", starts=[0, 0, 0], sizes=[1, 6, 1], steps=[1, 1, 1])
    wide = b.add("expand", column, shape=[1, 6, 5])
    joined = b.add("join", flipped, wide, b.constant(random.standard_normal((1, 6, 5)) * 9), axis=0)
    windows = {"index": np.array([[0, 2, 4], [1, 3, 5]], np.int32)}
    pooled = b.add("sample", joined, tensors=windows, axis=1, function="max")
    arrays = b.add("reshape", pooled, shape=[1, 4, 3, 5])
    spread = b.add("pad", arrays, low=[0, 0, 1, -1], high=[0, 0, 1, 2], interior=[0, 0, 1, 0], value=0.25)
    last = convolution(b.add("reshape", spread, shape=[4, 7, 6]), 3, 4)
    b.result("map", last)
    b.result("row", b.add("reshape", last, shape=[126]))
    b.result("joined", joined)
    return b.program()


def other_inputs(program: Program, count: int) -> dict[str, NDArray[np.float32]]:
    """Random values of a program's further inputs."""
    random = np.random.Generator(np.random.PCG64(8))
    return {name: random.standard_normal((count, *shape), np.float32) for name, shape in program.inputs.items()}


def normalized(program: Program, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images (N, C, H, W) as C and the web page make them of pixels."""
    std = np.array(program.std, np.float32)
    images = pixels * (1 / (255 * std)) - np.array(program.mean, np.float32) / std
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def in_c_order(shape: Shape, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The elements of an array in the order in which C and the web page have them."""
    ordered = np.empty(array.size, np.float32)
    ordered[places_of(shape)] = array.reshape(-1)
    return ordered


def _random(shape: Sequence[int]) -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(len(shape))).standard_normal(shape, np.float32)


def gated_program() -> Program:
    """A convolution, hardswish, a squeeze-excite gate with a sigmoid, and a classifier by softmax."""
    random = np.random.Generator(np.random.PCG64(7))
    b = Builder((3, 8, 8))
    plain = {"stride": [1, 1], "dilation": [1, 1], "groups": 1}

    def convolution(reads: str, shape: tuple[int, ...], padding: int) -> str:
        tensors = {"weight": (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)}
        tensors["offset"] = random.standard_normal(shape[0]).astype(np.float32) / 4
        return b.add("convolution", reads, tensors=tensors, padding=[padding] * 4, **plain)

    swish = b.add("unary", convolution("image", (8, 3, 3, 3), 1), function="hardswish")
    squeezed = b.add("reduce", swish, function="mean", axes=[1, 2], keep=True)
    gate = b.add("unary", convolution(squeezed, (8, 8, 1, 1), 0), function="sigmoid")
    gated = b.add("binary", swish, gate, function="multiply")
    pooled = b.add("reduce", gated, function="mean", axes=[1, 2], keep=True)
    b.result("classes", b.add("softmax", convolution(pooled, (10, 8, 1, 1), 0), axis=0, log=False))
    return b.program()
