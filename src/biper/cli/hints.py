"""What to say of an option that a command does not have: recipes have keys that are set by --set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

WITH_RECIPE = ("train", "compare")
"""The commands that take ``--set``."""

_MOST_KEYS = 3


def key_hint(verb: str, option: str) -> str:
    """A hint at the keys of a recipe that are spelled like an unknown option; empty if there are none.

    Args:
        verb: the command.
        option: the option as it was written, such as ``--momentum`` or ``--stage1.momentum``.
    """
    if verb not in WITH_RECIPE:
        return ""
    keys = list(recipe_keys())
    name = option.lstrip("-").partition("=")[0].replace("-", "_")
    if "." in name:
        found = get_close_matches(name, keys, 1, 0.8)
    else:
        ends = sorted({key.rpartition(".")[2] for key in keys})
        close = get_close_matches(name, ends, 1, 0.8)
        found = [key for key in keys if key.rpartition(".")[2] in close]
    return "".join(f", --set {key}=VALUE" for key in found[:_MOST_KEYS]).replace(", ", "; did you mean ", 1)


def recipe_keys() -> Iterator[str]:
    """Every key of a recipe as --set takes it, such as ``stage1.epochs``."""
    from biper.recipes.load import load_recipe
    from biper.recipes.schema import TeacherRecipe

    yield from _flat(load_recipe("digits").model_dump())
    yield from (f"teacher.{name}" for name in TeacherRecipe.model_fields)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key
