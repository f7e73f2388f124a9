"""Random programs, to whose counts `c_instructions.py` fits the costs of operators."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from biper.errors import ExportError
from biper.runtime.program import Operation, Program, pack_weight, write_program
from biper.runtime.reader import read_program
from biper.targets.c.fixed_point import IMAGE
from biper.targets.c.to_fixed_point import to_fixed_point


class Layers:
    """Collects layers of random kinds and sizes, each of which reads the one before."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.residual = random.random() < 0.5  # all binary layers then have a residual, as in a residual network
        self.bent = self.residual and random.random() < 0.4  # they then have thresholds and slopes too, as in ReActNet
        self.channels, size = self.pick(1, 3), self.pick(8, 8, 16, 16, 24, 32)
        self.input_shape = (self.channels, size if random.random() < 0.8 else 1, size)
        self.size = self.input_shape[1:]
        self.made: list[Operation] = []
        self.real = IMAGE
        self.bits: str | None = None

    def pick(self, *values: int) -> int:
        """One of some numbers."""
        return int(self.random.choice(values))

    def add(self, kind: str, reads: str, channels: int, tensors: dict[str, Any], **rest: Any) -> None:
        """Add a layer of so many channels, with an affine; some pools and paddings have none and move numbers."""
        name = str(len(self.made))
        affine = {
            key: (self.random.standard_normal(channels) / 10).astype(np.float32) for key in ("multiplier", "offset")
        }
        names = {"real": f"v{name}", "bits": f"b{name}"}
        alone = kind in ("pool", "pad_channels") and self.random.random() < 0.6
        if alone:
            affine = {}
        if alone and kind == "pad_channels":
            del names["bits"]
        bits = names.pop("bits", None) if self.bent else None
        if self.bent and "convolution" in kind:
            slope = self.random.uniform(0, 0.5, channels).astype(np.float32)
            kept = {key: value for key, value in rest["attributes"].items() if key not in ("low", "high")}
            tensors, rest["attributes"] = tensors | {"slope": slope}, kept | {"activation": "prelu"}
        self.made.append(Operation(kind, "layer", (reads,), (), **names, tensors=tensors | affine, **rest))
        self.real = names["real"]
        if bits is not None:
            offset = {"offset": (self.random.standard_normal(channels) / 10).astype(np.float32)}
            self.made.append(Operation("elementwise", "layer", (self.real,), (), bits=bits, tensors=offset))
        self.bits = bits or names.get("bits")
        self.channels = channels
        if self.bits is None:
            self.convolution(self.pick(16, 32), "real")

    def convolution(self, channels: int, kind: str) -> None:
        """A convolution of pixels, or of the ``"binary"``, ``"real"`` or ``"signed"`` layer before."""
        groups = 1 if not self.made or self.residual or self.random.random() < 0.7 else self.pick(4, self.channels)
        channels = channels if groups == 1 else self.channels
        kernel = [self.pick(1, 3, 3, 3, 5) if self.size[0] > 1 else 1, self.pick(1, 3, 3, 3, 5)]
        padding = [kernel[0] // 2] * 2 + [kernel[1] // 2] * 2
        attributes: dict[str, Any] = {"stride": [1, 1], "dilation": [1, 1], "padding": padding, "groups": groups}
        shape = (channels, self.channels // groups, *kernel)
        weight: Any = self.random.standard_normal(shape).astype(np.float32)
        clip: dict[str, Any] = {"activation": "clip", "low": -1.0, "high": 1.0}
        last = self.made[-1] if self.made else None
        if last is None:
            activation = clip if self.random.random() < 0.7 else {"activation": "relu"}
            self.add("convolution", IMAGE, channels, {"weight": weight}, attributes=attributes | activation)
        elif kind == "binary":
            same = channels == self.channels
            rest = {"attributes": attributes | (clip if same else {}), "residual": self.real if same else None}
            self.add("binary_convolution", self.bits or "", channels, {"weight": pack_weight(weight > 0)}, **rest)
        else:
            weight = weight if kind == "real" else pack_weight(weight > 0)
            activation = {"activation": "relu"} if self.random.random() < 0.5 else {}
            self.add("convolution", self.real, channels, {"weight": weight}, attributes=attributes | activation)

    def thresholds(self) -> None:
        """A binary convolution of which only signs are needed, and one that reads them."""
        self.convolution(self.pick(16, 32, 64, 128), "binary")
        channels = self.channels
        tensors = dict.fromkeys(("weight",), self.made[-1].tensors["weight"])
        tensors["threshold"] = self.random.integers(-9, 9, channels).astype(np.int32)
        tensors["flip"] = np.zeros(channels, np.uint8)
        made = self.made[-1]
        attributes = {key: made.attributes[key] for key in ("stride", "dilation", "padding", "groups")}
        self.made[-1] = replace(made, real=None, residual=None, tensors=tensors, attributes=attributes)
        wide = self.pick(256, 16, 16) if self.size[0] < 17 else 16
        weight = self.random.random((wide, self.channels, 3 if self.size[0] > 1 else 1, 3)) < 0.5
        padding = [weight.shape[2] // 2] * 2 + [1, 1]
        again = {"stride": [1, 1], "dilation": [1, 1], "padding": padding, "groups": 1}
        self.add("binary_convolution", made.bits or "", wide, {"weight": pack_weight(weight)}, attributes=again)

    def halved(self) -> None:
        """A pool of 2 x 2."""
        self.size = (self.size[0] // 2, self.size[1] // 2)
        window = {
            "kernel": [2, 2],
            "stride": [2, 2],
            "padding": [0, 0],
            "size": list(self.size),
            "count_padding": False,
        }
        kind = {"kind": "max" if self.random.random() < 0.5 else "average"}
        self.add("pool", self.real, self.channels, {}, attributes=window | kind)

    def widened(self) -> None:
        """Channels of zeros."""
        before, after = self.pick(0, 8), self.pick(8, 16)
        if self.residual:
            before = after = 8
        attributes = {"before": before, "after": after}
        channels = self.channels + before + after
        self.add("pad_channels", self.real, channels, {}, attributes=attributes)


def random_program(random: np.random.Generator) -> Program:
    """A convolution of pixels, then several layers, most of them binary as in a network."""
    layers = Layers(random)
    layers.convolution(layers.pick(16, 32, 64) if layers.residual else layers.pick(8, 16, 16, 32), "real")
    for _ in range(layers.pick(4, 6, 8)):
        kind = random.random()
        if kind < 0.5:
            same = layers.residual or random.random() < 0.6
            layers.convolution(layers.channels if same else layers.pick(16, 32, 64), "binary")
        elif kind < 0.7 and not layers.residual:
            layers.thresholds()
        elif kind < 0.8:
            layers.convolution(layers.pick(16 if layers.residual else 8, 16, 32), "real" if kind < 0.75 else "signed")
        elif kind < 0.9 and layers.size[0] > 3:
            layers.halved()
        else:
            layers.widened()
    channels = layers.input_shape[0]
    last = layers.real
    return read_program(
        write_program(Program(layers.input_shape, (0.5,) * channels, (0.25,) * channels, (), last, tuple(layers.made)))
    )


def flat_program(random: np.random.Generator) -> Program:
    """A convolution of pixels with so many weights that pixels are normalized first; its result is flattened."""
    channels, size = int(random.choice([1, 3])), int(random.choice([6, 8, 12]))
    width = int(random.choice([8, 16, 24])) + 1024 // (9 * channels)
    geometry = {"stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1], "groups": 1}
    weight = random.standard_normal((width, channels, 3, 3)).astype(np.float32)
    relu = geometry | {"activation": "relu"}
    first = Operation("convolution", "layer", (IMAGE,), (0, 0, 0), "v", None, None, relu, {"weight": weight})
    flat = Operation("flatten", "layer", ("v",), (0, 0, 0), "flat", "bits" if random.random() < 0.5 else None)
    shape = (channels, size, size)
    program = Program(shape, (0.5,) * channels, (0.25,) * channels, (), "flat", (first, flat))
    return read_program(write_program(program))


class Arrays:
    """Collects operations on arrays of random kinds and sizes, which read values that were made before."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        size = int(random.choice([4, 6, 8, 12]))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.made: list[Operation] = []
        self.input_shape = (3, size, size)
        width = int(random.choice([4, 8, 16]))
        geometry = {"stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1], "groups": 1}
        weight = random.standard_normal((width, 3, 3, 3)).astype(np.float32)
        self.add("convolution", [IMAGE], (width, size, size), {"weight": weight}, **geometry)

    def add(
        self, kind: str, reads: list[str], made: tuple[int, ...], tensors: dict[str, Any] | None = None, **rest: Any
    ) -> str:
        """Add an operation whose attributes are ``rest`` and whose result has the shape ``made``; returns its name."""
        name = f"v{len(self.made)}"
        self.made.append(Operation(kind, "layer", tuple(reads), (), name, attributes=rest, tensors=tensors or {}))
        self.shapes[name] = made
        return name

    def one(self, value: str, shape: tuple[int, ...]) -> None:
        """Add operations that read a value: all kinds that have a cost of their own are among them."""
        random, rank = self.random, len(shape)
        axis = int(random.integers(rank))
        match random.choice(["unary", "binary", "gate", "select", "softmax", "normalize", "matmul", "move", "sample"]):
            case "unary":
                self.add("unary", [value], shape, function=str(random.choice(["relu", "sigmoid", "tanh", "exp"])))
            case "binary":
                function = str(random.choice(["add", "subtract", "multiply", "divide", "maximum", "greater"]))
                self.add("binary", [value, value], shape, function=function)
            case "gate":
                axes = sorted(int(each) for each in random.choice(rank, int(random.integers(1, rank + 1)), False))
                kept = tuple(1 if each in axes else size for each, size in enumerate(shape))
                function = str(random.choice(["mean", "sum", "max"]))
                gate = self.add("reduce", [value], kept, function=function, axes=axes, keep=True)
                self.add("binary", [value, gate], shape, function="multiply")
            case "select":
                other = self.add("unary", [value], shape, function="relu")
                self.add("select", [value, other, value], shape)
            case "softmax":
                self.add("softmax", [value], shape, axis=axis, log=False)
            case "normalize":
                axes = [axis] if random.random() < 0.5 else list(range(rank))
                self.add("normalize", [value], shape, axes=axes, center=bool(random.random() < 0.7), epsilon=1e-3)
            case "matmul" if rank >= 2:
                order = [*range(rank - 2), rank - 1, rank - 2]
                turned = self.add("permute", [value], (*shape[:-2], shape[-1], shape[-2]), order=order)
                self.add("matmul", [value, turned], (*shape[:-1], shape[-2]))
            case "sample":
                taps, length = int(random.choice([1, 2, 4])), int(random.choice([4, 7, 12]))
                weighted = random.random() < 0.5
                tensors: dict[str, Any] = {"index": random.integers(0, shape[axis], (taps, length)).astype(np.int32)}
                if weighted:
                    tensors["weight"] = random.standard_normal((taps, length)).astype(np.float32)
                to = tuple(length if each == axis else size for each, size in enumerate(shape))
                self.add("sample", [value], to, tensors, axis=axis, function="sum" if weighted else "max")
            case _:
                self.moved(value, shape, axis)

    def moved(self, value: str, shape: tuple[int, ...], axis: int) -> None:
        """Add operations that move the elements of a value."""
        rank = len(shape)
        match self.random.choice(["flat", "turn", "half", "join", "pad"]):
            case "flat" if rank > 2:
                self.add("reshape", [value], (shape[0], math.prod(shape[1:])), shape=[shape[0], math.prod(shape[1:])])
            case "turn":
                order = [int(each) for each in self.random.permutation(rank)]
                self.add("permute", [value], tuple(shape[each] for each in order), order=order)
            case "half":
                sizes = [max(size // 2, 1) if each == axis else size for each, size in enumerate(shape)]
                self.add("slice", [value], tuple(sizes), starts=[0] * rank, sizes=sizes, steps=[1] * rank)
            case "pad":
                more = [1] * rank
                to = tuple(size + 2 for size in shape)
                self.add("pad", [value], to, low=more, high=more, interior=[0] * rank, value=0.0)
            case _:
                to = tuple(2 * size if each == axis else size for each, size in enumerate(shape))
                self.add("join", [value, value], to, axis=axis)


def array_program(random: np.random.Generator) -> Program:
    """A convolution of pixels, then operations on arrays."""
    arrays = Arrays(random)
    for _ in range(6):
        small = {name: shape for name, shape in arrays.shapes.items() if 4 < math.prod(shape) < 4096}
        value = str(random.choice(sorted(small)))
        arrays.one(value, small[value])
    last = arrays.made[-1].real or ""
    program = Program(arrays.input_shape, (0.5,) * 3, (0.25,) * 3, (), last, tuple(arrays.made))
    program = read_program(write_program(program))
    try:
        to_fixed_point(program, np.random.default_rng(0).standard_normal((2, *program.input_shape), np.float32))
    except ExportError:  # a table of a function is not exact enough for the range of its values
        return array_program(random)
    return program
