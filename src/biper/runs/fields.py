"""Reading the values of a JSON object, each checked to be of its kind."""

from __future__ import annotations

from typing import Any


class Fields:
    """The values of one JSON object.

    Args:
        document: what a JSON parser gave.

    Raises:
        ValueError: it is no object; and, from each method, the value of a key is missing or of another kind.
    """

    def __init__(self, document: object) -> None:
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, got {_shown(document)}")
        self.document: dict[str, Any] = document

    def __contains__(self, key: str) -> bool:
        return key in self.document

    def integer(self, key: str) -> int:
        """An integer."""
        value = self._value(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError(f"expected an integer for {key!r}, got {_shown(value)}")

    def number(self, key: str) -> float:
        """An integer or floating-point number."""
        return _number(key, self._value(key))

    def text(self, key: str) -> str:
        """A string."""
        value = self._value(key)
        if isinstance(value, str):
            return value
        raise ValueError(f"expected a text for {key!r}, got {_shown(value)}")

    def table(self, key: str) -> dict[str, Any]:
        """A JSON object, as a dictionary."""
        value = self._value(key)
        if isinstance(value, dict):
            return value
        raise ValueError(f"expected an object for {key!r}, got {_shown(value)}")

    def numbers(self, key: str) -> dict[str, float] | None:
        """A JSON object whose values are numbers; None if the key is missing."""
        if key not in self:
            return None
        return {name: _number(f"{key}.{name}", value) for name, value in self.table(key).items()}

    def _value(self, key: str) -> Any:
        if key not in self.document:
            raise ValueError(f"expected a value for {key!r}, found none")
        return self.document[key]


def _number(key: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected a number for {key!r}, got {_shown(value)}")


def _shown(value: object) -> str:
    """A value in an error message: its text, shortened to one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
