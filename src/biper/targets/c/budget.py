"""What a device has, what C source of a program needs of it, and what helps where that is more."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from biper.errors import ExportError
from biper.targets.c.instructions import PROCESSOR
from biper.targets.c.source import CSource

RESOURCES = {"flash": "flash", "ram": "RAM", "instructions": "instructions"}
"""The keys of a budget, and the names of what they limit; the last is for one input."""

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3}


class BudgetError(ExportError):
    """A program does not fit a budget.

    Attributes:
        table: what it needs and what the device has, as text of several lines.
    """

    def __init__(self, message: str, table: str) -> None:
        super().__init__(message)
        self.table = table


def parse_budget(
    text: str | None, *, flash: str | None = None, ram: str | None = None, integer_only: bool = True
) -> dict[str, int]:
    """Read a budget such as ``"flash=64k,ram=32k,instructions=20M"``.

    Args:
        text: keys of `RESOURCES` with sizes as `parse_bytes` reads them; k and M of instructions are powers of 1000.
        flash, ram: the same for one key each.
        integer_only: whether the program is written in integers alone, whose instructions can be estimated.

    Returns:
        The limits by the names of `RESOURCES`.

    Raises:
        ExportError: a key is unknown or given twice, a size is none, or instructions are limited without
            ``integer_only``.
    """
    given = [(key, size) for key, size in (("flash", flash), ("ram", ram)) if size is not None]
    for part in [] if text is None else text.split(","):
        key, equals, size = (piece.strip() for piece in part.partition("="))
        if key.lower() not in RESOURCES or not equals:
            raise ExportError(
                f"budget={text!r}: {part.strip()!r} is no part of a budget: expected some of flash=SIZE, ram=SIZE and "
                "instructions=NUMBER, with commas between them"
            )
        given.append((key.lower(), size))
    limits: dict[str, int] = {}
    for key, size in given:
        if RESOURCES[key] in limits:
            raise ExportError(f"{key} is given twice: give it once, in budget=... or by itself")
        try:
            limits[RESOURCES[key]] = parse_number(size, key) if key == "instructions" else parse_bytes(size)
        except ExportError as error:
            raise ExportError(f"{key}: {error}") from None
    if "instructions" in limits and not integer_only:
        raise ExportError(
            "instructions are estimated for integers alone: add integer_only=True, or leave them out of budget=..."
        )
    return limits


def parse_bytes(text: str) -> int:
    """Read a size such as ``128k``, ``1.5M``, ``1G`` or ``4096`` as bytes; k is 1024, as in data sheets of processors.

    Raises:
        ExportError: the text is no size.
    """
    number = _scaled(text, 1024, "(?:i?[bB])?")
    if number is None:
        raise ExportError(f"{text!r} is no size: expected bytes, such as 4096, 128k or 1M")
    return number


def parse_number(text: str, what: str) -> int:
    """Read a number such as ``20M`` or ``500k``; k is 1000.

    Raises:
        ExportError: the text is none.
    """
    number = _scaled(text, 1000, "")
    if number is None:
        raise ExportError(f"{text!r} is no number of {what}: expected one such as 500k, 20M or 1500000")
    return number


def _scaled(text: str, base: int, suffix: str) -> int | None:
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*([kKmMgG]?){suffix}", text, re.ASCII)
    if not match or float(match[1]) <= 0:
        return None
    return int(float(match[1]) * base ** _UNITS[match[2].lower()])


def needs_of(source: CSource) -> dict[str, int | None]:
    """What C source needs, by the names of `RESOURCES`; None for instructions in float32, which no model has."""
    instructions = source.instructions
    return {**source.needs, "instructions": None if instructions is None else round(instructions)}


def lacking(source: CSource, budget: Mapping[str, int]) -> dict[str, int]:
    """By how much a budget is too small, for all of it that is; what is not known lacks nothing."""
    return {
        name: need - budget[name] for name, need in needs_of(source).items() if need and need > budget.get(name, need)
    }


def fits(source: CSource, budget: Mapping[str, int]) -> bool:
    """Whether C source needs no more than a budget has."""
    return not lacking(source, budget)


def amount(name: str, number: float) -> str:
    """A number of bytes, in units of 1024, or of instructions, as text: ``48.8k``, ``14.60M``."""
    if name != "instructions":
        return f"{number / 1024:.1f}k"
    return f"{number / 1e6:.2f}M" if number >= 1e5 else f"{number:,.0f}"


def limit(name: str, size: float) -> str:
    """A limit as text, without digits that say nothing: ``64k``, ``1.5M``."""
    return re.sub(r"[.]?0+(?=[kM])", "", text) if "." in (text := amount(name, size)) else text


def amounts(numbers: Mapping[str, float], form: Callable[[str, float], str] = amount) -> str:
    """Numbers of `RESOURCES` as text: ``19.1k of flash, 10.2k of RAM and 1.02M instructions``."""
    parts = [f"{form(name, n)} {'' if name == 'instructions' else 'of '}{name}" for name, n in numbers.items()]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def needs_text(form: str, source: CSource, budget: Mapping[str, int]) -> str:
    """What a form of a program needs, in one line: flash, RAM, and instructions where they are limited and known."""
    asked = {name: need for name, need in needs_of(source).items() if need and (name in source.needs or name in budget)}
    text = f"{form} needs {amounts(asked)}"
    if not budget:
        return text
    if not fits(source, budget):
        return f"{text} and does not fit"
    unknown = "instructions" in budget and "instructions" not in asked
    return f"{text} and fits{', but its instructions are not known' if unknown else ''}"


def budget_table(source: CSource, budget: Mapping[str, int]) -> str:
    """What a program needs, what the device has, and whether it fits: a line for each resource."""
    lines = [f"{'':14}{'needs':>10}{'budget':>10}"]
    for name, need in needs_of(source).items():
        has, more = budget.get(name), lacking(source, budget).get(name)
        verdict = "" if has is None else "fits" if more is None else f"{amount(name, more)} too much"
        given = "-" if has is None else limit(name, has)
        asked = "unknown" if need is None else amount(name, need)
        lines.append(f"{name:14}{asked:>10}{given:>10}  {verdict}".rstrip())
    return "\n".join([*lines, f"Instructions for one input are an estimate for {PROCESSOR}."])


def budget_rows(source: CSource, budget: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The same as data for JSON; None for no limit, and for what is not known."""
    more = lacking(source, budget)
    return {
        name: {"needs": need, "budget": budget.get(name), "fits": name not in more}
        for name, need in needs_of(source).items()
    }


def shortage(source: CSource, budget: Mapping[str, int]) -> str:
    """What does not fit, by how much, and what of the network is behind it."""
    more = lacking(source, budget)
    helps = []
    if "flash" in more:
        helps.append(f"{amount('flash', source.table_bytes)} of the flash are weights and tables")
    if "RAM" in more and source.memory_map:
        helps.append(source.memory_map[0].removeprefix("arena: ") + " of the arena")
    if "instructions" in more:
        each: dict[str, float] = defaultdict(float)
        for call in source.made:
            each[call.step.op.source or call.operator] += call.instructions
        name, most = max(each.items(), key=lambda item: item[1])
        helps.append(f"{name} takes {amount('instructions', most)} of the instructions")
    return f"{amounts(more)} too much ({'; '.join(helps)}): fewer channels or layers, or a smaller input, help"
