"""Seeded mutations of the structure of packed files: of values, types, keys, shapes and tensors, sealed again.

A mutation of bytes is found by the checksum. These have a valid checksum, as a file has that was made on purpose.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from attacks.containers import Container, Entry
from support.array_programs import array_programs, movement_program
from support.small_programs import small_programs

from biper.errors import DataError, ModelFormatError
from biper.runtime.model import Model
from biper.runtime.program import write_program

RELEASED = Path(__file__).parents[1] / "data" / "released" / "0.1" / "finished" / "model.biper"

VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 16, 17, 255, 256, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 26, 1 << 31,
    1 << 32, 1 << 53, 1 << 63, 1 << 64, 10**30, 10**400, -(1 << 31), 0.5, -0.5, 1e-45, 1e29, 1e308, float("nan"),
    float("inf"), "", "image", "y", "v0", "b", "max", "sum", "power", "clip", "relu", "\0", "\ud800", "\x1b[2J",
    "x" * 1000, [], [0], [1, 1], [1 << 16, 1 << 16], [0, 0, 0, 0], [[[]]], ["image"], {}, {"a": {}}, {"name": "image"},
)  # fmt: skip
"""What a mutation puts in place of a part of the document."""

DTYPES = (
    "F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "I64", "I32",
    "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "X9", "", None, 5,
)  # fmt: skip

KEYS = (
    "operation", "source", "inputs", "real", "bits", "residual", "attributes", "tensors", "function", "axes", "axis",
    "keep", "kernel", "stride", "padding", "groups", "shape", "order", "activation", "low", "high", "format", "output",
    "outputs", "classes", "preprocessing", "sha256", "interior", "value", "weight", "count_padding", "size", "kind",
)  # fmt: skip

OPERATIONS = (
    "convolution", "binary_convolution", "pool", "elementwise", "pad_channels", "concatenate", "resize", "flatten",
    "constant", "unary", "binary", "select", "reduce", "softmax", "normalize", "matmul", "reshape", "permute", "slice",
    "expand", "join", "pad", "sample",
)  # fmt: skip

ALLOWED_MEMORY = 16 << 20
ALLOWED_WORK = 50_000_000


@cache
def bases() -> tuple[Container, ...]:
    """Valid files: the released one of version 0.1, and small ones with every operation."""
    programs = [*small_programs().values(), *array_programs().values(), movement_program()]
    blobs = [write_program(program) for program in programs]
    return tuple(Container.read(blob) for blob in [*blobs, RELEASED.read_bytes()])


def mutated(choice: random.Random) -> bytes:
    """A valid file with one to three mutations of its structure."""
    container = choice.choice(bases()).copy()
    change(container, choice)
    return container.sealed()


def change(container: Container, choice: random.Random) -> None:
    """Make one to three mutations of the structure of a file."""
    for _ in range(choice.choice((1, 1, 1, 2, 3))):
        if choice.random() < 0.3:
            _nudge(container, choice)
        elif choice.random() < 0.3 and container.tensors:
            _mutate_tensor(container, choice)
        else:
            _mutate_document(container, choice)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) of a JSON value."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def _nudge(container: Container, choice: random.Random) -> None:
    """A small change, after which a file is often still valid: a number by 1, a flag, an operand, a function."""
    entries = container.document.get("operations") if isinstance(container.document, dict) else None
    found = [place for place in places(entries) if type(place[0][place[1]]) in (int, float, bool, str)]
    if not found:
        return
    parent, key = choice.choice(found)
    old = parent[key]
    if isinstance(old, bool):
        parent[key] = not old
    elif isinstance(old, int | float):
        parent[key] = choice.choice((old - 1, old + 1, 2 * old, -old))
    else:
        parent[key] = choice.choice([parent[key] for parent, key in found if isinstance(parent[key], str)])


def _mutate_document(container: Container, choice: random.Random) -> None:
    found = list(places(container.document))
    if not found:
        return
    parent, key = choice.choice(found)
    old = parent[key]
    other_parent, other_key = choice.choice(found)
    match choice.randrange(12):
        case 0:
            del parent[key]
        case 1 | 2 | 3:
            parent[key] = copied(choice.choice(VALUES))
        case 4 | 5:
            parent[key] = near(old, choice)
        case 6:
            parent[key], other_parent[other_key] = copied(other_parent[other_key]), copied(old)
        case 7 if isinstance(parent, list):
            parent.insert(key, copied(old))
        case 8 if isinstance(parent, dict):
            parent[choice.choice(KEYS)] = parent.pop(key)
        case 9 if isinstance(parent, dict):
            parent[choice.choice(KEYS)] = copied(choice.choice(VALUES))
        case 10 if isinstance(old, list):
            choice.shuffle(old)
        case _:
            entries = container.document.get("operations") if isinstance(container.document, dict) else None
            if isinstance(entries, list) and entries and isinstance(entry := choice.choice(entries), dict):
                entry["operation"] = choice.choice(OPERATIONS)


def near(old: Any, choice: random.Random) -> Any:
    if isinstance(old, bool) or old is None:
        return not old
    if isinstance(old, int):
        as_float = float(old) if abs(old) < 1 << 1000 else float("inf")
        return choice.choice((old - 1, old + 1, -old, old * 2, old * 1000, old // 2, as_float, str(old)))
    if isinstance(old, float):
        return choice.choice((-old, old * 1e9, old * 1e-9, int(old) if abs(old) < 1e300 else 0, str(old)))
    if isinstance(old, str):
        return choice.choice((old + " ", old.upper(), old[1:], [old], {old: old}))
    if isinstance(old, list):
        return choice.choice((old * 2, old[1:], [*old, 1], old[0] if old else 0, [old]))
    return [list(pair) for pair in old.items()]


def copied(value: Any) -> Any:
    """A JSON value that shares nothing with this one, so that a later mutation changes one of them alone."""
    return json.loads(json.dumps(value))


def _mutate_tensor(container: Container, choice: random.Random) -> None:
    name = choice.choice(list(container.tensors))
    entry = container.tensors[name]
    shape = entry.shape if isinstance(entry.shape, list) else []
    match choice.randrange(8):
        case 0:
            del container.tensors[name]
        case 1:
            entry.dtype = choice.choice(DTYPES)
            if choice.random() < 0.5:  # of one byte each, as the types of 8 bits are
                entry.shape = [len(entry.data)]
        case 2:
            entry.shape = choice.choice(([*shape, 1], shape[1:], shape[::-1], [0], [], [1 << 40, 0], [-1], None, ["1"]))
        case 3:
            numbers = np.frombuffer(entry.data, np.uint8).copy()
            if numbers.size:
                numbers[choice.randrange(numbers.size) :] = choice.choice((0, 1, 127, 128, 255))
            entry.data = numbers.tobytes()
        case 4:
            container.tensors[choice.choice(list(container.tensors))] = entry
        case 5:
            size = choice.choice((0, 1, 3, 5, 16))
            container.tensors[name] = Entry.of(np.ones([size] * max(1, min(len(shape), 4)), np.float32))
        case 6:
            kind = choice.choice((np.float32, np.float16, np.int8, np.uint8, np.uint16, np.int32))
            if all(type(side) is int and 0 <= side < 1000 for side in shape):
                container.tensors[name] = Entry.of(np.zeros(shape, kind))
        case _:
            end = choice.choice((0, 1, len(entry.data), 1 << 40, -1, None))
            container.offsets[name] = [choice.choice((0, 4, len(entry.data), 1 << 63)), end]


def attempt(blob: bytes, *, threads: int = 1, verify: bool = True) -> str:
    """Load a file and run it on one image: ``"ran"``, or the text of the error with which it was refused.

    Any other exception is a fault, and so is a warning.
    """
    try:
        most = 2 * len(blob) + ALLOWED_MEMORY
        model = Model.load(blob, verify=verify, max_memory=most, max_work=ALLOWED_WORK, threads=threads)
    except ModelFormatError as error:
        return str(error)
    numbers = np.random.Generator(np.random.PCG64(1))
    image = numbers.standard_normal((1, *model.program.input_shape), np.float32)
    others = {name: numbers.standard_normal((1, *shape), np.float32) for name, shape in model.program.inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model(image, others)
        except DataError as error:
            return str(error)
        repr(model.classes)
    return "ran"
