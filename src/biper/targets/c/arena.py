"""The arena: one static block of memory for all values of an image, whose layout is known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from biper.runtime.program import Operation, Program, Shape
from biper.targets.c.layout import same_order
from biper.targets.c.streams import Stream

SCRATCH = "scratch "
"""What the names of memory begin with that an operation needs while it runs."""


@dataclass
class Value:
    """Memory for one value, from the step that writes it to the last step that reads it.

    Attributes:
        name: of the value.
        size: in bytes, a multiple of 4.
        first, last: the numbers of these steps.
        replaces: a value in whose place it is written, element by element, if nothing reads that one later.
        offset: where it lies, in bytes, once it was placed.
        names: of the values that lie there one after the other.
    """

    name: str
    size: int
    first: int
    last: int
    replaces: str | None = None
    offset: int = 0
    names: tuple[str, ...] = ()


def place_values(values: Sequence[Value], together: int = 0) -> list[Value]:
    """Give each value the lowest offset that is free from its first to its last step, the largest value first.

    Args:
        values: in the order in which they are made.
        together: how many of the first steps take turns: values that they make are needed until the last of them.

    Returns:
        One value for each place, with its offset and with the names of all values that lie there.
    """
    shared: dict[str, Value] = {}
    for value in values:
        other = shared.get(value.replaces or "")
        if other is not None and other.size == value.size and other.last == value.first:
            other.last = value.last
            other.names += (value.name,)
            shared[value.name] = other
        else:
            names = (value.name,)
            shared[value.name] = Value(value.name, value.size, value.first, value.last, names=names)
    blocks = list({block.name: block for block in shared.values()}.values())
    for block in blocks:
        if block.first < together and not block.name.startswith(SCRATCH):
            block.first, block.last = 0, max(block.last, together - 1)
    placed: list[Value] = []
    for block in sorted(blocks, key=lambda block: -block.size):
        for other in sorted(placed, key=lambda other: other.offset):
            at_once = other.first <= block.last and block.first <= other.last
            if at_once and other.offset < block.offset + block.size:
                block.offset = max(block.offset, other.offset + other.size)
        placed.append(block)
    return blocks


@dataclass(frozen=True)
class Arena:
    """The arena of a program: values of all types share its memory, each while it is needed.

    Attributes:
        offsets: where each value begins, in bytes.
        size: of the whole, in bytes.
        real_bytes: the size of a real value.
        blocks: what was placed.
        rings: how many rows of values are kept, where those are not all.
    """

    offsets: Mapping[str, int]
    size: int
    real_bytes: int
    blocks: tuple[Value, ...] = ()
    rings: Mapping[str, int] = field(default_factory=dict)

    def members(self) -> str:
        """The members of its C union; ``real_t`` is the C type of real values."""
        kinds = {"real_t real": self.real_bytes, "uint16_t bits": 2, "uint32_t words": 4, "uint8_t levels": 1}
        return " ".join(f"{kind}[{max(self.size, 4) // size}];" for kind, size in kinds.items())

    def address(self, value: str, kind: str, offset: int = 0) -> str:
        """The C expression of the address of an element of a value.

        Args:
            value: its name.
            kind: ``"real"``, ``"bits"`` (units of 16), ``"words"`` or ``"levels"``.
            offset: counts elements from its first.
        """
        size = {"real": self.real_bytes, "bits": 2, "words": 4, "levels": 1}[kind]
        offset += self.offsets[value] // size
        return f"arena.{kind} + {offset}" if offset else f"arena.{kind}"

    def describe(self, sources: Sequence[str]) -> tuple[str, ...]:
        """A line that says which operation needs the most memory, and a line for each place, by offset and time.

        Args:
            sources: names of the operations, by number.
        """
        if not self.blocks:
            return ()
        needs = [
            sum(block.size for block in self.blocks if block.first <= at <= block.last) for at in range(len(sources))
        ]
        most = needs.index(max(needs))
        lines = [f"arena: operation {most} ({sources[most]}) needs the most, {needs[most]:,} of {self.size:,} bytes"]
        for block in sorted(self.blocks, key=lambda block: (block.first, block.offset)):
            what = "to work in" if block.name.startswith(SCRATCH) else ", ".join(block.names)
            rows = f", {self.rings[block.name]} rows" if block.name in self.rings else ""
            times = f"operations {block.first} to {block.last}"
            lines.append(f"  {block.offset:6,} to {block.offset + block.size:6,}  {times}: {what}{rows}")
        return tuple(lines)


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


def arena_of(program: Program, real_bytes: int, scratch: Mapping[int, int], stream: Stream | None = None) -> Arena:
    """Lay out the values of a program; some operations write over an input where nothing reads it later.

    Constants are no part of the arena. Further inputs are copied into it before the first operation.

    Args:
        program: a validated program.
        real_bytes: the size of a real value.
        scratch: the bytes that an operation, by its number, needs while it runs; they are called ``"scratch 7"``.
        stream: the first operations, if they run row by row.
    """
    operations, shapes = program.operations, program.shapes
    last = dict.fromkeys(program.results.values(), len(operations))
    for index, op in enumerate(operations):
        for name in (*op.inputs, op.residual):
            if name is not None:
                last[name] = max(last.get(name, 0), index)
    values = [
        Value(name, _whole_words(math.prod(shape) * real_bytes), 0, last.get(name, 0))
        for name, shape in program.inputs.items()
    ]
    replaced: dict[str, str] = {}
    alive = {value.name for value in values}
    for index, op in enumerate(operations):
        if op.real is not None and op.operation != "constant":
            for name in _replaceable(op, shapes):
                if name in alive and last[name] == index:
                    replaced[op.real] = name
                    break
            alive.add(op.real)
    rings = {} if stream is None else _rings(program, stream, last, replaced)
    for index, op in enumerate(operations):
        if op.real is not None and op.operation != "constant":
            size = math.prod(op.shape) * real_bytes
            if op.real in rings:
                size = size // op.shape[1] * rings[op.real]
            values.append(Value(op.real, _whole_words(size), index, last.get(op.real, index), replaced.get(op.real)))
        if op.bits is not None:
            channels, height, width = op.shape
            size = _whole_words(2 * -(-channels // 16) * rings.get(op.bits, height) * width)
            values.append(Value(op.bits, size, index, last.get(op.bits, index)))
        if index in scratch:
            values.append(Value(f"{SCRATCH}{index}", _whole_words(scratch[index]), index, index))
    blocks = place_values(values, 0 if stream is None else len(stream.bands))
    offsets = {name: block.offset for block in blocks for name in block.names}
    size = max((block.offset + block.size for block in blocks), default=0)
    return Arena(offsets, size, real_bytes, tuple(blocks), rings)


def _rings(program: Program, stream: Stream, last: Mapping[str, int], replaced: Mapping[str, str]) -> dict[str, int]:
    """How many rows are kept of each value that only the operations of a stream read, values in one place together."""
    groups: dict[str, list[str]] = {}
    of: dict[str, str] = {}
    made: dict[str, int] = {}
    for index, op in enumerate(program.operations[: len(stream.bands)]):
        for name in (op.real, op.bits):
            if name is not None:
                made[name] = index
                of[name] = of[replaced[name]] if replaced.get(name) in of else name
                groups.setdefault(of[name], []).append(name)
    rings: dict[str, int] = {}
    for first, names in groups.items():
        if any(last.get(name, made[name]) >= len(stream.bands) for name in names):
            continue
        low = max((low for (_, name), low in stream.lows.items() if name in names), default=0)
        rows = stream.bands[made[first]] - stream.lags[made[first]] + low
        height = program.shapes[first][1]
        rings |= dict.fromkeys(names, min(rows, height))
    return rings


def _whole_words(size: int) -> int:
    return -(-size // 4) * 4
