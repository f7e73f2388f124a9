"""Where the values of one image lie in memory: what engines without an allocator need to know beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Value:
    """Memory for one value: ``size`` elements, from step ``first`` that writes it to step ``last`` that reads it.

    ``instead`` names a value whose place it takes, element by element, if that one is not read later.
    """

    name: str
    size: int
    first: int
    last: int
    instead: str | None = None


def place(values: Sequence[Value]) -> tuple[dict[str, int], int]:
    """The lowest place of every value that is free while it lives, the largest first; and the size of it all.

    Args:
        values: in the order in which they are made.

    Returns:
        Offsets by name, and the total, in elements.
    """
    shared: dict[str, Value] = {}
    for value in values:
        other = shared.get(value.instead or "")
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
