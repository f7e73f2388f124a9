"""Reading a recipe: TOML from the package or from a file, with overrides, and with errors that name the key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biper.errors import RecipeError, printable
from biper.io.files import read_regular
from biper.io.toml import MAX_BYTES, MAX_DEPTH, parse_toml, require_plain, shortened
from biper.methods.settings import CHOICES
from biper.recipes.packaged import recipe_names, recipe_text
from biper.recipes.schema import Recipe

__all__ = ["load_recipe", "recipe_from_document", "recipe_names"]


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        source: the name of a recipe that comes with biper (``"digits"``) or the path of a TOML file.
        overrides: ``"key=value"`` texts such as ``"stage1.epochs=10"``, applied in order; values are TOML, and
            text that is not TOML stands for itself.

    Raises:
        RecipeError: there is no such recipe, it is not TOML, a key is unknown (the message gives the nearest valid
            one), or a value has a wrong type or is out of range.
    """
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text = read_regular(path, MAX_BYTES).decode()
        except OSError as error:
            raise RecipeError(f"cannot read recipe {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"cannot read recipe {path}: {error}") from error
    else:
        text = recipe_text(str(source))
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise RecipeError(f"recipe {source} is not valid TOML: {printable(str(error))}") from error
    for override in overrides:
        _apply_override(document, override)
    return recipe_from_document(document, str(source))


def recipe_from_document(document: dict[str, Any], source: str) -> Recipe:
    """Validate a recipe that was already read.

    Args:
        document: the tables and keys of the recipe.
        source: the name of the recipe in error messages.

    Raises:
        RecipeError: a key is unknown or missing, or a value has a wrong type or is out of range.
    """
    try:
        require_plain(document)
        return Recipe.read(document, f"recipe {source}")
    except ValueError as error:
        raise RecipeError(f"recipe {source}: {error}") from error


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".", MAX_DEPTH)]
    if not equals or not all(path):
        raise RecipeError(f"overrides=... expects key=value such as stage1.epochs=10, got {shortened(repr(override))}")
    if len(path) > MAX_DEPTH:
        raise RecipeError(f"overrides=... expects keys of up to {MAX_DEPTH} parts, got {shortened(repr(override))}")
    for part in path[:-1]:
        if path[0] == "method" and part in CHOICES and isinstance(document.get(part), str):
            document[part] = {"name": document[part]}  # a choice may be its name alone
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise RecipeError(f'overrides=["{shortened(key)}"]: {shortened(part)} is a value, not a table')
    try:
        document[path[-1]] = read_value(text)
    except ValueError as error:
        raise RecipeError(f'overrides=["{shortened(key)}"]: {error}') from error


def read_value(text: str) -> Any:
    """Read a value that is written as in TOML; a text that is not TOML stands for itself.

    Raises:
        ValueError: it is TOML that goes beyond the limits of `biper.io.toml`.
    """
    try:
        return parse_toml(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text.strip()
