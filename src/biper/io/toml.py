"""TOML with limits: what is read takes no time and no memory to speak of, and what is written can be read again."""

from __future__ import annotations

import datetime
import json
import math
import re
import tomllib
from typing import Any

from biper.errors import printable

MAX_BYTES = 1 << 18
"""The largest recipe, in bytes. Those of biper have about 2,000."""

MAX_DEPTH = 20
"""The most parts of a key, and the most tables and lists inside each other."""

MAX_DOTS = 200
"""The most dots in a line: the time that a key takes grows with the square of its parts."""

MAX_DIGITS = 300
"""The most digits of a number in a row."""

LONGEST = 200
"""Longer texts are cut where messages quote them."""

_LONG_NUMBER = re.compile(rf"[0-9a-fA-F_]{{{MAX_DIGITS + 1}}}")
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        tomllib.TOMLDecodeError: it is not valid.
        ValueError: it goes beyond the limits; `TOMLDecodeError` is a `ValueError` too.
    """
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark: save it as UTF-8 without one")
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text):,} characters, expected at most {MAX_BYTES:,}")
    for number, line in enumerate(text.split("\n"), 1):
        where = f"line {number}: " if number > 1 else ""
        if line.count(".") > MAX_DOTS:
            raise ValueError(f"{where}a line has more than {MAX_DOTS} dots")
        if _LONG_NUMBER.search(line) and any(len(digits) > MAX_DIGITS for digits in _outside_quotes(line)):
            raise ValueError(f"{where}a number has more than {MAX_DIGITS} digits")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"lists and tables are more than {MAX_DEPTH} deep in each other") from None
    require_plain(document)
    return document


def _outside_quotes(line: str) -> list[str]:
    """The runs of digits of a line that are not inside quotes of one line."""
    return re.findall(r"[0-9a-fA-F_]+", re.sub(r'"(\\.|[^"\\])*"|\'[^\']*\'', "", line))


def require_plain(document: Any) -> None:
    """Check that a document can be written again: it is not too deep, and all texts in it are Unicode.

    Raises:
        ValueError: it is not so.
    """
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and tables are more than {MAX_DEPTH} deep in each other")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"a text is no Unicode: {shortened(printable(value))}")


def shortened(text: str) -> str:
    """A text for a message: in one line, without control characters, and cut after 200 characters."""
    return printable(text if len(text) <= LONGEST else text[:LONGEST] + "[cut]")


def toml_value(value: Any) -> str:
    """A value as TOML writes it on one line; a table becomes an inline table, without the keys that are None."""
    if isinstance(value, dict):
        inside = (f"{_key(str(key))} = {toml_value(part)}" for key, part in value.items() if part is not None)
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf, -inf or nan
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    """A text in quotes. JSON leaves characters as they are that TOML or a terminal does not accept."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _key(key: str) -> str:
    """A key as TOML writes it: bare where it may be, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)
