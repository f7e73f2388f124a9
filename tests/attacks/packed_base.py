"""Two small valid packed files, which the attacks change."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from attacks.containers import Container, Entry
from support.programs import PADDED, PLAIN

from biper.runtime.program import Operation, Program, pack_weight, write_program

Document = dict[str, Any]


@cache
def _images() -> bytes:
    numbers = np.random.Generator(np.random.PCG64(2))
    first = {
        "weight": numbers.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "multiplier": np.ones(4, np.float32),
        "offset": np.zeros(4, np.float32),
    }
    bits = {
        "weight": pack_weight(numbers.random((6, 4, 3, 3)) < 0.5),
        "threshold": np.zeros(6, np.int32),
        "flip": np.zeros(6, np.uint8),
    }
    pool = {"kind": "average", "kernel": [4, 4], "stride": [4, 4], "padding": [0, 0], "size": [1, 1]}
    operations = (
        Operation("convolution", "first", ("image",), (), real="a", bits="b", attributes=PADDED, tensors=first),
        Operation("binary_convolution", "second", ("b",), (), bits="c", attributes=PADDED, tensors=bits),
        Operation("binary_convolution", "third", ("c",), (), real="d", residual="a", attributes=PADDED,
                  tensors={"weight": pack_weight(numbers.random((4, 6, 3, 3)) < 0.5)}),
        Operation("pool", "last", ("d",), (), real="e", attributes=pool | {"count_padding": False}),
    )  # fmt: skip
    return write_program(Program((3, 4, 4), (0.5,) * 3, (0.25,) * 3, ("cat", "dog", "cow", "fox"), "e", operations))


def images() -> Container:
    """A file of version 1: a real convolution, two of bits, and a pool; four classes."""
    return Container.read(_images())


def operation(container: Container, number: int) -> Document:
    """The entry of an operation."""
    entry: Document = container.document["operations"][number]
    return entry


def attributes(container: Container, number: int) -> Document:
    """The attributes of an operation."""
    found: Document = container.document["operations"][number]["attributes"]
    return found


def program(shape: list[int], *operations: Document, output: str = "y", **more: Any) -> Container:
    """A file of version 2 with the operations; the tensors of an operation are arrays in its entry ``tensors``."""
    tensors: dict[str, Entry] = {}
    entries = []
    for number, given in enumerate(operations):
        arrays = given.get("tensors", {})
        tensors |= {f"{number}.{name}": Entry.of(array) for name, array in arrays.items()}
        entries.append({"source": "s", "attributes": {}, **given, "tensors": list(arrays)})
    numbers = {"mean": [0.0] * min(shape[0], 64), "std": [1.0] * min(shape[0], 64)}
    document = {
        "format": "biper program 2",
        "input": {"shape": shape, **numbers},
        "classes": [],
        "output": output,
        "operations": entries,
        **more,
    }
    return Container(document, tensors)


def on(name: str, /, *inputs: str, real: str = "y", tensors: Document | None = None, **attributes: Any) -> Document:
    """The entry of the operation of this name, which emits a real value."""
    entry: Document = {"operation": name, "inputs": list(inputs), "real": real, "attributes": attributes}
    return entry | ({} if tensors is None else {"tensors": tensors})


def convolution(reads: str, weight: Any, real: str = "y", **attributes: Any) -> Document:
    """The entry of a convolution of real values."""
    return on("convolution", reads, real=real, tensors={"weight": weight}, **{**PLAIN, **attributes})
