"""A table as data, which a terminal and a page show in their own ways. This module imports nothing slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: a short title, with the unit if there is one.
        show: turns a value into text; None for a column of names, which is aligned to the left.
        meaning: one sentence that explains the column, shown if there is room.
        bar: whether the values go from 0 to 1, so that a bar in the cell can show them.
    """

    title: str
    show: Callable[[Any], str] | None = None
    meaning: str = ""
    bar: bool = False


@dataclass(frozen=True)
class Table:
    """A table of raw values.

    Attributes:
        name: the title of the table.
        columns: its columns.
        rows: one value for each column; None shows as an empty cell.
        caption: a text below the table.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def text(self, row: Sequence[Any]) -> list[str]:
        """The values of a row as text."""
        return [
            "" if value is None else str(value) if column.show is None else column.show(value)
            for column, value in zip(self.columns, row, strict=True)
        ]


def without_empty_columns(table: Table) -> Table:
    """The table without the columns in which every value is None."""
    kept = [number for number in range(len(table.columns)) if any(row[number] is not None for row in table.rows)]
    columns = [table.columns[number] for number in kept]
    return Table(table.name, columns, [[row[number] for number in kept] for row in table.rows], table.caption)


def size(count: float) -> str:
    """A number of bytes as text, in powers of 1000, such as ``"999 B"``, ``"12.3 kB"`` and ``"4.56 MB"``."""
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def whole(value: float) -> str:
    """A number rounded to an integer as text, such as ``"1,234"``."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share from 0 to 1 as text, such as ``"12.3%"``."""
    return f"{value:.1%}"


def decimals(digits: int) -> Callable[[float], str]:
    """A function that turns a number into text with this many decimals."""
    return lambda value: f"{value:,.{digits}f}"


def significant(value: float) -> str:
    """A number as text with three significant digits."""
    return f"{value:#.3g}".rstrip(".")
