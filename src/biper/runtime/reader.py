"""Reading a packed program strictly: reading runs no code, opens no other file and trusts no count.

Every name, type, shape and size is checked before anything is computed or allocated for it. The format is in
`biper.runtime.program`, the rules of each operation are in `biper.runtime.operations`.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from biper.errors import ModelFormatError, printable
from biper.io.container import ContainerError, open_sealed
from biper.io.files import read_regular
from biper.runtime.budget import HEADER_FACTOR, MAX_HEADER, MAX_MEMORY, MAX_WORK, Budget
from biper.runtime.checks import LONGEST_MESSAGE, Checker
from biper.runtime.maps import is_map
from biper.runtime.operations import OPERATIONS
from biper.runtime.operations.epilogue import check_epilogue
from biper.runtime.operations.moves import checked_shape
from biper.runtime.preprocessing import read_preprocessing
from biper.runtime.program import FORMATS, VERSION_1, Operation, Program, Shape, are_usable, defaults_of

MAX_OPERATIONS = 10_000

MAX_NAMES = 1_000
"""The most inputs, and the most results, of a program."""

DTYPES = frozenset({"F32", "F16", "I8", "U8", "U16", "I32"})
"""The types that tensors of a packed file may have, by their names in safetensors."""


def read_program(
    source: bytes | Path, *, verify: bool = True, max_memory: int = MAX_MEMORY, max_work: int = MAX_WORK
) -> Program:
    """Read and validate a program.

    Args:
        source: the path of a `.biper` file, or the bytes of one. A file is read once, as a whole: what is checked is
            what runs, even if the file is replaced or cut in the meantime.
        verify: compare the checksum. Everything else about the file is checked in any case.
        max_memory: the most bytes that the program may need; see `biper.runtime.budget`.
        max_work: the most elementary operations that it may need for one image.

    Raises:
        ModelFormatError: the file cannot be read, or anything in it is wrong, or it needs too much memory or work; the
            text says what and where.
    """
    budget = Budget(max_memory, max_work, Checker())
    try:
        blob = source if isinstance(source, bytes) else read_regular(source, max_memory)
        _count_file(budget, blob)
        document, tensors = open_sealed(blob, verify=verify, dtypes=DTYPES), safetensors.numpy.load(blob)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ModelFormatError(
                f"the model needs more than max_memory={max_memory:,} allows: {error.strerror}"
            ) from error
        raise ModelFormatError(f"the model cannot be read: {error.strerror or error}") from error
    except ContainerError as error:
        raise ModelFormatError(f"the model {error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelFormatError(printable(f"the model is corrupt: {error}"[:LONGEST_MESSAGE])) from error
    return _Reader(document, tensors, budget).program()


def _count_file(budget: Budget, blob: bytes) -> None:
    """Count the memory that a file takes, whose tensors and header are copied, before either is."""
    header = int.from_bytes(blob[:8], "little")
    if header <= len(blob) - 8:  # else it is no container, which opening it says
        if header > MAX_HEADER:
            raise ContainerError(f"has a header of {header:,} bytes, more than the {MAX_HEADER:,} of a packed file")
        budget.add_memory(HEADER_FACTOR * header, f"its header of {header:,} bytes")
        budget.add_memory(len(blob) - header, "its tensors")


class _Reader:
    """Turns a document and its tensors into a program, and checks both against the format."""

    def __init__(self, document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], budget: Budget) -> None:
        self.document, self.tensors, self.budget = document, tensors, budget
        self.check = budget.check
        self.real: dict[str, Shape] = {}
        self.bits: dict[str, Shape] = {}
        self.images = {"image"}

    def program(self) -> Program:
        check, document = self.check, self.document
        check.encodable(document)
        found = document.get("format")
        check.require(
            isinstance(found, str) and found in FORMATS, f"has format {found!r}, expected one of {', '.join(FORMATS)}"
        )
        self.known = VERSION_1 if found == FORMATS[0] else frozenset(OPERATIONS)
        given = check.mapping(document.get("input"), "input")
        channels, height, width = check.integers(given.get("shape"), "input shape", 3, 1, 1 << 16)
        shape = (channels, height, width)
        check.size(shape)
        mean = check.numbers(given.get("mean"), "mean", channels)
        std = check.numbers(given.get("std"), "std", channels)
        check.require(all(value > 0 for value in std), "has a std that is not positive")
        classes = check.texts(document.get("classes"), "has no list of class names")
        prepared = "preprocessing" in document and found != FORMATS[0]
        preprocessing = read_preprocessing(check, document["preprocessing"], shape) if prepared else None
        self.real["image"] = shape
        others = {} if found == FORMATS[0] else check.mapping(document.get("inputs", {}), "inputs")
        check.require(len(others) <= MAX_NAMES, f"has {len(others)} inputs, expected at most {MAX_NAMES}")
        for name, size in others.items():
            check.require(name != "image", "has a second input 'image'")
            self.real[name] = checked_shape(check, size)
            check.size(self.real[name])
        inputs = {name: self.real[name] for name in others}
        entries = document.get("operations")
        check.require(isinstance(entries, list) and len(entries) <= MAX_OPERATIONS, "has no list of operations")
        assert isinstance(entries, list)
        operations = tuple(self.operation(number, entry) for number, entry in enumerate(entries))
        check.where = "the model"
        output = document.get("output")
        check.require(isinstance(output, str) and output in self.real, f"has output {output!r}, which is no real value")
        assert isinstance(output, str)
        count = math.prod(self.real[output])
        named = (0, self.real[output][0]) if is_map(self.real[output]) else (0,)  # a map has a name for each channel
        check.require(len(classes) in (*named, count), f"has {len(classes)} class names for {count} outputs")
        outputs = {} if found == FORMATS[0] else check.mapping(document.get("outputs", {}), "outputs")
        check.require(len(outputs) <= MAX_NAMES, f"has {len(outputs)} outputs, expected at most {MAX_NAMES}")
        for name, value in outputs.items():
            check.require(isinstance(value, str) and value in self.real, f"has no real value for its output {name!r}")
        check.require(not outputs or next(iter(outputs.values())) == output, "has another output than its first")
        results = list(outputs.values()) or [output]
        self.budget.add_values(operations, {"image": shape} | inputs, results, self.images)
        return Program(shape, mean, std, tuple(classes), output, operations, dict(outputs), inputs, preprocessing)

    def operation(self, number: int, given: Any) -> Operation:
        check = self.check
        check.where = f"operation {number}"
        entry = check.mapping(given, "entry")
        kind, source = entry.get("operation"), entry.get("source")
        check.require(isinstance(kind, str) and kind in self.known, f"is an unknown {kind!r}")
        check.require(isinstance(source, str), "has no source")
        assert isinstance(kind, str)
        assert isinstance(source, str)
        check.where += f" ({kind} of {source:.100})"
        unknown = set(entry) - {"operation", "source", "inputs", "real", "bits", "residual", "attributes", "tensors"}
        check.require(not unknown, f"has unknown entries {sorted(unknown)}")
        inputs = check.texts(entry.get("inputs"), "has no inputs")
        known = self.bits if kind == "binary_convolution" else self.real
        strange = next((name for name in inputs if name not in known), None)
        check.require(strange is None, f"reads {strange!r}, which no earlier operation emits as it needs it")
        spec = OPERATIONS[kind]
        check.require(spec.inputs[0] <= len(inputs) <= spec.inputs[1], f"has {len(inputs)} inputs")
        tensors = {}
        keys = check.texts(entry.get("tensors"), "has no list of tensors")
        check.require(len(set(keys)) == len(keys), "names a tensor twice")
        for key in keys:
            check.require(f"{number}.{key}" in self.tensors, f"has no tensor {number}.{key}"[:100])
            tensors[key] = self.tensors[f"{number}.{key}"]
            usable = are_usable(kind, tensors[key])
            check.require(usable, f"has a {key} with values that are NaN or infinite"[:100])
        attributes = defaults_of(kind) | dict(check.mapping(entry.get("attributes"), "attributes"))
        shapes = [known[name] for name in inputs]
        if spec.on_images and not all(len(size) == 3 for size in shapes):
            check.require(False, f"reads values of shapes {shapes}, expected images")
        shape, own_attributes, own_tensors = spec.rule(check, shapes, attributes, tensors)
        check.size(shape)
        each = spec.work(shapes, shape, attributes, tensors)
        self.budget.add_operation(shapes, shape, each, on_images=spec.on_images)
        op = Operation(
            kind, source, tuple(inputs), shape, entry.get("real"), entry.get("bits"), entry.get("residual"),
            attributes, tensors,
        )  # fmt: skip
        more_attributes, more_tensors = check_epilogue(check, op, self.real) if spec.on_images else (set(), set())
        check.require(set(attributes) == own_attributes | more_attributes, f"has attributes {sorted(attributes)}")
        check.require(set(tensors) == own_tensors | more_tensors, f"has tensors {sorted(tensors)}")
        check.require(op.real is not None or op.bits is not None, "emits nothing")
        alone = op.bits is None and op.residual is None
        check.require(spec.on_images or alone, "has a residual or bits, which operations on arrays have not")
        for emitted, values in ((op.real, self.real), (op.bits, self.bits)):
            if emitted is not None:
                check.require(isinstance(emitted, str), "emits a value whose name is no text")
                check.require(emitted not in self.real and emitted not in self.bits, f"emits {emitted!r} a second time")
                values[emitted] = shape
                if spec.on_images:
                    self.images.add(emitted)
        return op
