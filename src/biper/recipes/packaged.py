"""The recipes that come with biper, as text: listing and printing them needs neither pydantic nor torch."""

from __future__ import annotations

from importlib import resources

from biper.errors import RecipeError, did_you_mean


def recipe_names() -> list[str]:
    """The names of the recipes that come with biper, sorted."""
    folder = resources.files("biper.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The TOML file of a recipe that comes with biper, comments included.

    Raises:
        RecipeError: no recipe has that name; the nearest name is given.
    """
    names = recipe_names()
    if name not in names:
        hint = did_you_mean(name, names, listed=False) or "."
        raise RecipeError(f"no recipe {name!r}{hint} A path must end in .toml; `biper recipes` lists all")
    return resources.files("biper.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
