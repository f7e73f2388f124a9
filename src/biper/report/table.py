"""A table as data: the same for a terminal and for a page. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: short; with the unit, if there is one.
        show: a value as text; None for columns of names, which stand on the left. A value that is None shows nothing.
        meaning: one sentence, shown where there is room.
        bar: whether values go from 0 to 1 and may be drawn as a share of the cell.
    """

    title: str
    show: Callable[[Any], str] | None = None
    meaning: str = ""
    bar: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of raw values, a value a column; ``caption`` says what they are about."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def text(self, row: Sequence[Any]) -> list[str]:
        """A row's values as they are shown."""
        return [
            "" if value is None else str(value) if column.show is None else column.show(value)
            for column, value in zip(self.columns, row, strict=True)
        ]


def without_empty_columns(table: Table) -> Table:
    """The table without the columns in which no row has a value."""
    kept = [number for number in range(len(table.columns)) if any(row[number] is not None for row in table.rows)]
    columns = [table.columns[number] for number in kept]
    return Table(table.name, columns, [[row[number] for number in kept] for row in table.rows], table.caption)


def size(count: float) -> str:
    """Bytes for people: 1,234 B, 12.3 kB, 4.56 MB (powers of 1000)."""
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def whole(value: float) -> str:
    """1,234."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """12.3%, from a share."""
    return f"{value:.1%}"


def decimals(digits: int) -> Callable[[float], str]:
    """Shows numbers with so many decimals."""
    return lambda value: f"{value:,.{digits}f}"


def significant(value: float) -> str:
    """Three significant digits, for values of any magnitude."""
    return f"{value:#.3g}".rstrip(".")
