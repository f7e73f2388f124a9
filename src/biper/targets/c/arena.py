"""The arena: one static block of memory for all values of an image, whose layout is known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from biper.runtime.program import Operation, Program, Shape
from biper.targets.c.layout import same_order


@dataclass
class Value:
    """Memory for one value, from the step that writes it to the last step that reads it.

    Attributes:
        name: of the value.
        size: in elements.
        first, last: the numbers of these steps.
        replaces: a value in whose place it is written, element by element, if nothing reads that one later.
    """

    name: str
    size: int
    first: int
    last: int
    replaces: str | None = None


def place_values(values: Sequence[Value]) -> tuple[dict[str, int], int]:
    """Give each value the lowest offset that is free from its first to its last step, the largest value first.

    Args:
        values: in the order in which they are made.

    Returns:
        The offsets by name, and the size of the whole, in elements.
    """
    shared: dict[str, Value] = {}
    for value in values:
        other = shared.get(value.replaces or "")
        if other is not None and other.size == value.size and other.last == value.first:
            other.last = value.last
            shared[value.name] = other
        else:
            shared[value.name] = Value(value.name, value.size, value.first, value.last)
    blocks = {block.name: block for block in shared.values()}.values()
    placed: list[tuple[int, Value]] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        offset = 0
        for start, other in sorted(placed, key=lambda entry: entry[0]):
            if other.first <= block.last and block.first <= other.last and start < offset + block.size:
                offset = max(offset, start + other.size)
        placed.append((offset, block))
    offsets = {block.name: offset for offset, block in placed}
    total = max((offset + block.size for offset, block in placed), default=0)
    return {name: offsets[block.name] for name, block in shared.items()}, total


@dataclass(frozen=True)
class Arena:
    """The arena of a program.

    Attributes:
        offsets: where each value begins among those of its kind, real or bits, in elements.
        elements: how many elements of each kind there are: ``"real"`` values; ``"bits"``, in words; the ``"window"``
            of words that a binary convolution gathers for one pixel; and the ``"levels"`` of an int8 convolution, its
            inputs rounded to bytes.
    """

    offsets: Mapping[str, int]
    elements: Mapping[str, int]

    def members(self) -> str:
        """The members of its C struct; ``real_t`` is the C type of real values."""
        kinds = {"real": "real_t", "bits": "uint32_t", "window": "uint32_t", "levels": "uint8_t"}
        return " ".join(f"{kinds[kind]} {kind}[{self.elements[kind]}];" for kind in kinds if self.elements[kind])

    def nbytes(self, real_bytes: int) -> int:
        """Its size, where a real value takes ``real_bytes``; each kind takes whole words of 4 bytes."""
        each = {"real": real_bytes, "bits": 4, "window": 4, "levels": 1}
        return sum(-(-size * each[kind] // 4) * 4 for kind, size in self.elements.items())


IN_PLACE = frozenset({"elementwise", "unary", "binary", "select", "softmax", "normalize", "reshape"})
"""Operations that may write over an input that is stored in the same order."""


def _replaceable(op: Operation, shapes: Mapping[str, Shape]) -> Iterator[str]:
    """The values over which an operation may write its result, element by element."""
    if op.residual is not None and (op.residual not in op.inputs or op.operation in IN_PLACE):
        yield op.residual
    if op.operation in IN_PLACE:
        yield from (name for name in op.inputs if shapes[name] == op.shape)
    if op.operation == "reshape" and same_order(shapes[op.inputs[0]], op.shape):
        yield op.inputs[0]


def arena_of(program: Program) -> Arena:
    """Lay out the values of a program; some operations write over an input where nothing reads it later.

    Constants are no part of the arena. Further inputs are copied into it before the first operation.
    """
    operations, shapes = program.operations, program.shapes
    last = dict.fromkeys(program.results.values(), len(operations))
    for index, op in enumerate(operations):
        for name in (*op.inputs, op.residual):
            if name is not None:
                last[name] = max(last.get(name, 0), index)
    values: dict[str, list[Value]] = {"real": [], "bits": []}
    for name, shape in program.inputs.items():
        values["real"].append(Value(name, math.prod(shape), 0, last.get(name, 0)))
    alive = {value.name for value in values["real"]}
    for index, op in enumerate(operations):
        if op.real is not None and op.operation != "constant":
            replaces = next((name for name in _replaceable(op, shapes) if name in alive and last[name] == index), None)
            values["real"].append(Value(op.real, math.prod(op.shape), index, last.get(op.real, index), replaces))
            alive.add(op.real)
        if op.bits is not None:
            channels, height, width = op.shape
            size = -(-channels // 32) * height * width
            values["bits"].append(Value(op.bits, size, index, last.get(op.bits, index)))
    placed = {kind: place_values(entries) for kind, entries in values.items()}
    windows = [
        -(-shapes[op.inputs[0]][0] // 32) * math.prod(op.tensors["weight"].shape[1:3])
        for op in operations
        if op.operation == "binary_convolution" and op.attributes["groups"] == 1
    ]
    levels = [math.prod(shapes[op.inputs[0]]) for op in operations if "input_factor" in op.attributes]
    elements = {kind: total for kind, (_, total) in placed.items()}
    elements |= {"window": max(windows, default=0), "levels": max(levels, default=0)}
    return Arena(placed["real"][0] | placed["bits"][0], elements)
