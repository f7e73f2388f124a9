"""Reading a recipe: TOML from the package or from a file, with overrides, and with errors that name the key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from biper.errors import RecipeError, nearest, printable
from biper.io.files import read_regular
from biper.io.toml import MAX_BYTES, MAX_DEPTH, parse_toml, require_plain, shortened
from biper.methods.fields import described
from biper.methods.settings import CHOICES, explain_method
from biper.recipes.packaged import recipe_names, recipe_text
from biper.recipes.schema import Recipe

__all__ = ["load_recipe", "recipe_from_document", "recipe_names"]

MAX_PROBLEMS = 10
"""How many wrong keys an error names."""


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
        return Recipe(**document)
    except ValidationError as error:
        problems = [shortened(problem) for problem in islice(_explain(error), MAX_PROBLEMS)]
        more = error.error_count() - len(problems)
        problems += [f"and {more} more"] if more > 0 else []
        raise RecipeError(f"recipe {source}: " + "; ".join(problems)) from error
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


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        near: str | None
        path = [str(part) for part in problem["loc"]]
        if path[0] == "method":
            yield explain_method({**problem, "loc": problem["loc"][1:]})
            continue
        key = ".".join(path)
        match problem["type"]:
            case "extra_forbidden":
                near = _nearest_key(path)
                yield f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else "")
            case "missing":
                yield f"missing key {key!r}"
            case _:
                yield f"{key}: {described(problem)}"


def _nearest_key(path: list[str]) -> str | None:
    """The valid key nearest to an unknown one: in its own table first, else in any table."""
    tables: dict[str, type[BaseModel]] = {"": Recipe}
    for name, field in Recipe.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                tables[name] = kind
    table = ".".join(path[:-1])
    near = nearest(path[-1], tables[table].model_fields if table in tables else ())
    if near:
        return ".".join([*path[:-1], near])
    everywhere = {key: f"{name}.{key}".lstrip(".") for name, kind in tables.items() for key in kind.model_fields}
    near = nearest(path[-1], everywhere)
    return everywhere[near] if near else None
