"""Reading a packed program strictly: no code is run, no other file opened, no count trusted.

Every name, type, shape and size is checked before anything is computed or allocated for it. The format is in
`biper.runtime.program`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from biper.errors import ModelFormatError
from biper.io.container import ContainerError, open_sealed
from biper.runtime.program import FORMAT, Operation, Program, Shape, defaults_of

MAX_OPERATIONS = 10_000
MAX_ELEMENTS = 1 << 26
"""Of one value: a map of 256 MiB in float32. Larger ones are refused before anything is allocated."""

MAX_INT8_TERMS = (1 << 31) // (255 * 128)
"""Of one sum: more could overflow 32 bits."""

MAX_WORK = 1 << 40
"""Of one image, in multiply-accumulates and values: minutes. A file that asks for more is not a model but an attack."""


def read_program(source: bytes | Path, *, verify: bool = True) -> Program:
    """Read and validate a program.

    Args:
        source: a `.biper` file, which is mapped, not read whole; or its bytes.
        verify: compare the checksum; everything else is checked in any case.

    Raises:
        ModelFormatError: anything about it is wrong; the text says what and where.
    """
    try:
        if isinstance(source, bytes):
            document, tensors = open_sealed(source, verify=verify), safetensors.numpy.load(source)
        else:
            document, tensors = _open_file(source, verify=verify)
    except OSError as error:
        raise ModelFormatError(f"the model cannot be read: {error.strerror or error}") from error
    except ContainerError as error:
        raise ModelFormatError(f"the model {error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelFormatError(f"the model is corrupt: {error}") from error
    return _Reader(document, tensors).program()


def _open_file(path: Path, *, verify: bool) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise ContainerError("is empty")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            document = open_sealed(mapped, verify=verify)
    with safetensors.safe_open(path, "np") as content:
        return document, {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  not a dict


class _Reader:
    """Checks a document against the format; ``where`` names the place for errors."""

    def __init__(self, document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        self.document, self.tensors = document, tensors
        self.where = "the model"
        self.real: dict[str, Shape] = {}
        self.bits: dict[str, Shape] = {}
        self.work = 0

    def program(self) -> Program:
        found = self.document.get("format")
        self.require(found == FORMAT, f"has format {found!r}, expected {FORMAT!r}")
        given = self.mapping(self.document.get("input"), "input")
        shape = tuple(self.integers(given.get("shape"), "input shape", 3, 1, 1 << 16))
        channels = shape[0]
        self.elements(shape)
        mean = self.numbers(given.get("mean"), "mean", channels)
        std = self.numbers(given.get("std"), "std", channels)
        self.require(all(value > 0 for value in std), "has a std that is not positive")
        classes = self.document.get("classes")
        self.require(
            isinstance(classes, list) and all(isinstance(name, str) for name in classes), "has no list of class names"
        )
        self.real["image"] = (shape[0], shape[1], shape[2])
        entries = self.document.get("operations")
        self.require(isinstance(entries, list) and 0 < len(entries) <= MAX_OPERATIONS, "has no list of operations")
        assert isinstance(entries, list)
        operations = tuple(self.operation(number, entry) for number, entry in enumerate(entries))
        self.where = "the model"
        output = self.document.get("output")
        self.require(isinstance(output, str) and output in self.real, f"has output {output!r}, which is no real value")
        assert isinstance(output, str)
        assert isinstance(classes, list)
        count = math.prod(self.real[output])
        self.require(len(classes) in (0, count), f"has {len(classes)} class names for {count} outputs")
        return Program(self.real["image"], mean, std, tuple(classes), output, operations)

    def operation(self, number: int, entry: Any) -> Operation:
        self.where = f"operation {number}"
        entry = self.mapping(entry, "entry")
        kind, source = entry.get("operation"), entry.get("source")
        self.require(isinstance(kind, str) and kind in _KINDS, f"is an unknown {kind!r}")
        self.require(isinstance(source, str), "has no source")
        self.where += f" ({kind} of {source})"
        unknown = set(entry) - {"operation", "source", "inputs", "real", "bits", "residual", "attributes", "tensors"}
        self.require(not unknown, f"has unknown entries {sorted(unknown)}")
        inputs = entry.get("inputs")
        self.require(isinstance(inputs, list) and all(isinstance(name, str) for name in inputs), "has no inputs")
        known = self.bits if kind == "binary_convolution" else self.real
        for name in inputs:
            self.require(name in known, f"reads {name!r}, which no earlier operation emits as it needs it")
        self.require(len(inputs) >= 2 if kind == "concatenate" else len(inputs) == 1, f"has {len(inputs)} inputs")
        keys = entry.get("tensors")
        self.require(isinstance(keys, list) and all(isinstance(key, str) for key in keys), "has no list of tensors")
        tensors = {}
        for key in keys:
            self.require(f"{number}.{key}" in self.tensors, f"has no tensor {number}.{key}"[:100])
            tensors[key] = self.tensors[f"{number}.{key}"]
        attributes = defaults_of(kind) | dict(self.mapping(entry.get("attributes"), "attributes"))
        shapes = [known[name] for name in inputs]
        shape, allowed_attributes, allowed_tensors = _KINDS[kind](self, shapes, attributes, tensors)
        self.elements(shape)
        self.account(kind, shape, shapes[0], attributes, tensors)
        op = Operation(
            kind, source, tuple(inputs), shape, entry.get("real"), entry.get("bits"), entry.get("residual"),
            attributes, tensors,
        )  # fmt: skip
        more_attributes, more_tensors = self.epilogue(op)
        self.require(set(attributes) == allowed_attributes | more_attributes, f"has attributes {sorted(attributes)}")
        self.require(set(tensors) == allowed_tensors | more_tensors, f"has tensors {sorted(tensors)}")
        self.require(op.real is not None or op.bits is not None, "emits nothing")
        for name, values in ((op.real, self.real), (op.bits, self.bits)):
            if name is not None:
                self.require(isinstance(name, str), "emits a value whose name is no text")
                self.require(name not in self.real and name not in self.bits, f"emits {name!r} a second time")
                values[name] = shape
        return op

    def epilogue(self, op: Operation) -> tuple[set[str], set[str]]:
        """Check the epilogue; returns the attributes and tensors that it accounts for."""
        channels = op.shape[0]
        attributes: set[str] = set()
        tensors = {name for name in ("multiplier", "offset", "threshold", "flip", "slope") if name in op.tensors}
        for name in tensors - {"threshold", "flip"}:
            self.tensor(op.tensors, name, (channels,), "float32")
        if tensors & {"threshold", "flip"}:
            self.tensor(op.tensors, "threshold", (channels,), "int32")
            self.tensor(op.tensors, "flip", (channels,), "uint8")
            self.require(bool((op.tensors["flip"] <= 1).all()), "has a flip that is neither 0 nor 1")
            alone = op.operation == "binary_convolution" and op.real is None and op.residual is None
            self.require(alone and tensors == {"threshold", "flip"}, "has a threshold where it cannot have one")
        self.require("multiplier" not in tensors or "offset" in tensors, "has a multiplier without offset")
        if op.residual is not None:
            self.require(
                isinstance(op.residual, str) and self.real.get(op.residual) == op.shape,
                f"has residual {op.residual!r}, which is no real value of shape {op.shape}",
            )
        if "activation" in op.attributes:
            kind = op.attributes["activation"]
            self.require(kind in ("clip", "relu", "prelu"), f"has unknown activation {kind!r}")
            self.require("threshold" not in tensors, "has an activation beside a threshold")
            self.require((kind == "prelu") == ("slope" in tensors), "has a slope without prelu, or prelu without slope")
            attributes = {"activation"}
            if kind == "clip":
                low, high = (self.numbers([op.attributes.get(key)], key, 1)[0] for key in ("low", "high"))
                self.require(low <= high, f"clips to [{low}, {high}]")
                attributes = {"activation", "low", "high"}
        else:
            self.require("slope" not in tensors, "has a slope without prelu")
        return attributes, tensors

    def convolution(
        self, shapes: list[Shape], attributes: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        channels, height, width = shapes[0]
        (groups,) = self.integers([attributes.get("groups")], "groups", 1, 1, channels)
        self.require(channels % groups == 0, f"has {groups} groups for {channels} channels")
        stride = self.integers(attributes.get("stride"), "stride", 2, 1, 1 << 10)
        dilation = self.integers(attributes.get("dilation"), "dilation", 2, 1, 1 << 10)
        top, bottom, left, right = self.integers(attributes.get("padding"), "padding", 4, 0, 1 << 10)
        weight = tensors.get("weight")
        self.require(weight is not None and weight.ndim == 4, "has no weight of four dimensions")
        assert weight is not None
        inside = channels // groups
        if weight.dtype == np.uint8:
            out, *kernel, packed = weight.shape
            self.require(packed == -(-inside // 8), f"has weight bits {weight.shape} for {inside} channels a group")
            spare = packed * 8 - inside
            self.require(not spare or not (weight[..., -1] >> (8 - spare)).any(), "has weight bits beyond its channels")
        else:
            out, given, *kernel = weight.shape
            allowed = (np.float32, np.float16, np.int8)
            self.require(weight.dtype in allowed, f"has weights of type {weight.dtype}")
            self.require(given == inside, f"has weight {weight.shape} for {inside} channels a group")
        self.require(out >= 1 and out % groups == 0, f"has {out} output channels for {groups} groups")
        self.require(min(kernel) >= 1, f"has an empty kernel {tuple(kernel)}")
        rows = (height + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        columns = (width + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
        names = {"groups", "stride", "dilation", "padding"}
        if weight.dtype == np.int8:
            self.require(groups == 1, "has int8 weights and groups")
            self.require("multiplier" in tensors, "has int8 weights without multiplier")
            self.require(math.prod(weight.shape[1:]) < MAX_INT8_TERMS, "has int8 sums that could overflow")
            (factor,) = self.numbers([attributes.get("input_factor")], "input_factor", 1)
            self.require(0 < factor < 1e30, f"has input_factor {factor}")
            self.integers([attributes.get("input_zero")], "input_zero", 1, 0, 255)
            names |= {"input_factor", "input_zero"}
        return (out, rows, columns), names, {"weight"}

    def binary_convolution(
        self, shapes: list[Shape], attributes: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        self.require("weight" in tensors and tensors["weight"].dtype == np.uint8, "has no weight bits")
        return self.convolution(shapes, attributes, tensors)

    def pool(
        self, shapes: list[Shape], attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        channels, height, width = shapes[0]
        self.require(attributes.get("kind") in ("max", "average"), f"has kind {attributes.get('kind')!r}")
        self.require(isinstance(attributes.get("count_padding"), bool), "has no count_padding")
        kernel = self.integers(attributes.get("kernel"), "kernel", 2, 1, 1 << 16)
        stride = self.integers(attributes.get("stride"), "stride", 2, 1, 1 << 16)
        padding = self.integers(attributes.get("padding"), "padding", 2, 0, 1 << 10)
        size = self.integers(attributes.get("size"), "size", 2, 1, 1 << 16)
        for extent, window, step, pad, count in zip((height, width), kernel, stride, padding, size, strict=True):
            self.require(2 * pad <= window, f"pads {padding} for windows {kernel}")
            self.require((count - 1) * step < extent + pad, "has windows outside the image")
        return (channels, size[0], size[1]), {"kind", "kernel", "stride", "padding", "count_padding", "size"}, set()

    def elementwise(
        self, shapes: list[Shape], _attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        return shapes[0], set(), set()

    def pad_channels(
        self, shapes: list[Shape], attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        channels, height, width = shapes[0]
        before, after = self.integers([attributes.get("before"), attributes.get("after")], "padding", 2, 0, 1 << 20)
        return (before + channels + after, height, width), {"before", "after"}, set()

    def concatenate(
        self, shapes: list[Shape], _attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        self.require(len({shape[1:] for shape in shapes}) == 1, f"joins values of shapes {shapes}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:]), set(), set()

    def resize(
        self, shapes: list[Shape], attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        height, width = self.integers([attributes.get("height"), attributes.get("width")], "size", 2, 1, 1 << 16)
        return (shapes[0][0], height, width), {"height", "width"}, set()

    def flatten(
        self, shapes: list[Shape], _attributes: Mapping[str, Any], _tensors: Mapping[str, NDArray[Any]]
    ) -> tuple[Shape, set[str], set[str]]:
        return (math.prod(shapes[0]), 1, 1), set(), set()

    def require(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ModelFormatError(f"{self.where} {problem}"[:500])

    def mapping(self, value: Any, what: str) -> Mapping[str, Any]:
        self.require(isinstance(value, dict), f"has no {what}")
        return value

    def integers(self, value: Any, what: str, count: int, low: int, high: int) -> list[int]:
        valid = isinstance(value, list) and len(value) == count
        valid = valid and all(type(entry) is int and low <= entry <= high for entry in value)
        self.require(valid, f"has {what} {value!r}, expected {count} integers from {low} to {high}")
        return value

    def numbers(self, value: Any, what: str, count: int) -> tuple[float, ...]:
        valid = isinstance(value, list) and len(value) == count
        valid = valid and all(type(entry) in (int, float) and abs(entry) < 1e30 for entry in value)
        self.require(valid, f"has {what} {str(value)[:100]}, expected {count} finite numbers")
        return tuple(float(entry) for entry in value)

    def account(
        self,
        kind: str,
        shape: Shape,
        read: Shape,
        attributes: Mapping[str, Any],
        tensors: Mapping[str, NDArray[Any]],
    ) -> None:
        """Add up the work of one image, and refuse too much of it."""
        each = 1
        if kind == "pool":
            each = math.prod(min(window, extent) for window, extent in zip(attributes["kernel"], read[1:], strict=True))
        elif "weight" in tensors:
            weight = tensors["weight"]
            kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
            each = math.prod(kernel) * read[0] // attributes["groups"]
        self.work += math.prod(shape) * each
        self.require(self.work <= MAX_WORK, f"brings the work for one image to {self.work:,}, more than {MAX_WORK:,}")

    def tensor(self, tensors: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: str) -> None:
        array = tensors.get(name)
        found = "nothing" if array is None else f"{array.dtype} {array.shape}"
        self.require(
            array is not None and array.shape == shape and array.dtype == dtype,
            f"has {name} {found}, expected {dtype} {shape}",
        )

    def elements(self, shape: tuple[int, ...]) -> None:
        """Refuse shapes that are empty or too large, before anything is allocated for them."""
        self.require(min(shape) >= 1 and math.prod(shape) <= MAX_ELEMENTS, f"makes a value of shape {shape}")


_KINDS = {
    "convolution": _Reader.convolution,
    "binary_convolution": _Reader.binary_convolution,
    "pool": _Reader.pool,
    "elementwise": _Reader.elementwise,
    "pad_channels": _Reader.pad_channels,
    "concatenate": _Reader.concatenate,
    "resize": _Reader.resize,
    "flatten": _Reader.flatten,
}
