"""Reading a recipe: TOML from the package or a file, overrides, and errors that name the key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from biper.errors import RecipeError
from biper.methods.settings import METHODS, Method
from biper.recipes.schema import Recipe


def recipe_names() -> list[str]:
    """The names of the recipes that come with biper."""
    folder = resources.files("biper.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        source: the name of a recipe that comes with biper (``"digits"``) or the path of a TOML file.
        overrides: ``"key=value"`` texts such as ``"stage1.epochs=10"``, applied in order; values are TOML, and
            text that is not TOML stands for itself.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key (the nearest valid one is named), a wrong type or
            a value out of range.
    """
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read recipe {path}: {error}") from error
    else:
        names = recipe_names()
        if str(source) not in names:
            near = difflib.get_close_matches(str(source), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)};"
            raise RecipeError(f"no recipe {str(source)!r}; {hint} A path must end in .toml; `biper recipes` lists all")
        text = resources.files("biper.recipes").joinpath(f"{source}.toml").read_text(encoding="utf-8")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source} is not valid TOML: {error}") from error
    for override in overrides:
        _apply_override(document, override)
    return recipe_from_document(document, str(source))


def recipe_from_document(document: dict[str, Any], source: str) -> Recipe:
    """Validate a recipe that was already read; ``source`` names it in errors.

    Raises:
        RecipeError: as `load_recipe`.
    """
    try:
        return Recipe(**document)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: " + "; ".join(_explain(error))) from error


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise RecipeError(f"--set expects key=value such as stage1.epochs=10, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    for part in path[:-1]:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise RecipeError(f"--set {key}: {part} is a value, not a table")
    document[path[-1]] = value


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        near: str | None
        path = [str(part) for part in problem["loc"]]
        method = path.pop(1) if path[0] == "method" and len(path) > 1 else ""  # names the table that was chosen
        key = ".".join(path)
        match problem["type"]:
            case "extra_forbidden":
                near = _nearest_key(path, METHODS.get(method))
                yield f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else "")
            case "missing":
                yield f"missing key {key!r}"
            case "union_tag_invalid":
                name = problem["input"]["name"]
                near = next(iter(difflib.get_close_matches(str(name), METHODS, n=1)), None)
                hint = f"did you mean {near!r}? " if near else ""
                yield f"no method {name!r}; {hint}Known: {', '.join(METHODS)}"
            case _:
                message = (
                    problem["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
                )
                yield f"{key}: {message}, got {problem['input']!r}"


def _nearest_key(path: list[str], method: type[Method] | None) -> str | None:
    """The valid key nearest to an unknown one: in its own table first, else in any table."""
    tables: dict[str, type[BaseModel]] = {"": Recipe} | ({"method": method} if method else {})
    for name, field in Recipe.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if name != "method" and isinstance(kind, type) and issubclass(kind, BaseModel):
                tables[name] = kind
    table = ".".join(path[:-1])
    near = difflib.get_close_matches(path[-1], list(tables[table].model_fields) if table in tables else [], n=1)
    if near:
        return ".".join([*path[:-1], near[0]])
    everywhere = {key: f"{name}.{key}".lstrip(".") for name, kind in tables.items() for key in kind.model_fields}
    near = difflib.get_close_matches(path[-1], everywhere, n=1)
    return everywhere[near[0]] if near else None
