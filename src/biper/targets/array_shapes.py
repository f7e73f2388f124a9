"""Shapes and paddings of operations on arrays in engines that compute many images at once, behind a batch axis.

A value of a program belongs to one image. In these engines a value of shape (a, b) has the shape (batch, a, b), unless
it is the same for every image: then it has no batch axis, and it broadcasts as in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

from biper.runtime.operations import OPERATIONS
from biper.runtime.program import Operation, Program, Shape


def padded_rank(shape: Shape, rank: int) -> Shape:
    """The shape with axes of size 1 in front, so that it has ``rank`` axes."""
    return (1,) * (rank - len(shape)) + shape


def constant_values(program: Program) -> frozenset[str]:
    """The names of the values that have no batch axis: constants, and arrays computed from them alone."""
    found: set[str] = set()
    for op in program.operations:
        if op.real is not None and not OPERATIONS[op.operation].on_images and found.issuperset(op.inputs):
            found.add(op.real)
    return frozenset(found)


def output_names(program: Program) -> dict[str, str]:
    """The names that the results of a program have as outputs of a graph, by their names in the program.

    They are the same, but ``_output`` is appended where another value of the graph has that name. A value that has no
    batch axis, or that is an input, is another value than the output.
    """
    made = {op.real for op in program.operations} - constant_values(program)
    taken = {*program.shapes, *program.results}
    names: dict[str, str] = {}
    for name, value in program.results.items():
        free = name
        if name in program.shapes and not (name == value and value in made):
            while free in taken:
                free += "_output"
        taken.add(free)
        names[name] = free
    return names


@dataclass(frozen=True)
class Padding:
    """A `pad` as steps that engines have, each with one entry for each axis.

    Attributes:
        split: the shape with an axis of size 1 behind each axis; None where there is nothing between elements.
        between: how many elements follow in each of these.
        joined: the shape after that, with each pair of axes made one.
        starts, ends: the part that stays.
        low, high: how many elements then come before and behind, none negative.
    """

    split: Shape | None
    between: tuple[int, ...]
    joined: Shape
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]


def padding_steps(op: Operation, shape: Shape) -> Padding:
    """The steps of a `pad` of a value of this shape.

    With ``interior`` elements behind every element, also the last, ``high - interior`` more follow.
    """
    lows, highs, interior = (op.attributes[name] for name in ("low", "high", "interior"))
    ends = [high - between for high, between in zip(highs, interior, strict=True)]
    joined = tuple(size * (between + 1) for size, between in zip(shape, interior, strict=True))
    return Padding(
        tuple(part for size in shape for part in (size, 1)) if any(interior) else None,
        tuple(interior),
        joined,
        tuple(max(-low, 0) for low in lows),
        tuple(size - max(-end, 0) for size, end in zip(joined, ends, strict=True)),
        tuple(max(low, 0) for low in lows),
        tuple(max(end, 0) for end in ends),
    )
