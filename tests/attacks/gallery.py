"""The gallery of attacks: each is a function that makes a hostile file, and the exact error that it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Attack:
    """One hostile file.

    Attributes:
        make: makes it; its docstring says what it attacks.
        error: the text of the error.
    """

    make: Callable[..., Any]
    error: str


@dataclass
class Gallery:
    """The attacks on one kind of file."""

    attacks: list[Attack] = field(default_factory=list)

    def attack(self, error: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add the decorated function. ``error`` is the text of the error that its file must give."""

        def add(make: Callable[..., Any]) -> Callable[..., Any]:
            assert make.__doc__, f"{make.__name__} does not say what it attacks"
            self.attacks.append(Attack(make, error))
            return make

        return add

    def parameters(self) -> list[Any]:
        """The attacks as parameters of a test, by the names of their functions."""
        return [pytest.param(attack, id=attack.make.__name__) for attack in self.attacks]
