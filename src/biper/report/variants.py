"""The rows of a comparison of methods: published methods, other settings, and grids of choices."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from typing import Any

from biper.errors import ModelError, RecipeError, did_you_mean
from biper.io.toml import toml_value
from biper.methods.presets import METHODS
from biper.methods.settings import CHOICES, Method, read_method
from biper.recipes.load import read_value

_LABEL = r"[\w.+-]+"


@dataclass(frozen=True)
class Variant:
    """A row of a comparison.

    Attributes:
        label: the name of the row, and of the folder of its runs.
        settings: what the row changes in the recipe, as ``key=value``.
    """

    label: str
    settings: tuple[str, ...] = ()

    @classmethod
    def of_method(cls, name: str) -> Variant:
        """The variant of a method with its published settings, by the name of the method.

        Raises:
            RecipeError: there is no such method.
        """
        if name not in METHODS:
            raise RecipeError(f"no method {name!r}{did_you_mean(name, METHODS)}")
        return cls(name, (f'method={{name="{name}"}}',))

    @classmethod
    def read(cls, text: str) -> Variant:
        """Read a variant from a text such as ``"slow-wave model.frequency=5 stage1.periodic_penalty=0"``.

        Raises:
            RecipeError: the text has no valid label, or no settings.
        """
        label, *settings = shlex.split(text) or [""]
        if not re.fullmatch(_LABEL, label) or not settings or not all("=" in setting for setting in settings):
            raise RecipeError(
                "variants=... expects labels of letters, digits and ._+- with settings after them, such as "
                f"'slow-wave model.frequency=5', got {text!r}"
            )
        return cls(label, tuple(settings))


def grid_of_choices(
    method: Method, *, weights: str | None = None, inputs: str | None = None, activation: str | None = None
) -> list[Variant]:
    """Make the variants of a grid: every combination of the given weights, inputs and activations.

    Each argument is a list such as ``"biper,recu"``, or ``"all"``. A name may be followed by options, as in
    ``"biper:phase_deviation=1.5:sharpen_from=0.15,recu"``; options that are not given have their defaults. The label of
    a variant joins its choices by plus signs, such as ``biper-phase_deviation-1.5+rsign``.

    Args:
        method: the method of the recipe, which gives the choices that are not part of the grid.
        weights: weight quantizers, see `biper.methods.weights`.
        inputs: input quantizers, see `biper.methods.inputs`.
        activation: activations, see `biper.methods.inputs`.

    Returns:
        The variants; without any argument, none.

    Raises:
        RecipeError: a list is empty, there is no choice of a name, or an option is unknown or has a wrong value.
    """
    asked = {"weights": weights, "inputs": inputs, "activation": activation}
    lists = {key: _read_list(key, text) for key, text in asked.items() if text is not None}
    if not lists:
        return []
    variants = []
    for entries in itertools.product(*lists.values()):
        chosen = dict(zip(lists, entries, strict=True))
        table = {key: chosen[key][1] if key in chosen else getattr(method, key).model_dump() for key in CHOICES}
        try:
            read_method(table)
        except ModelError as error:
            raise RecipeError(str(error)) from error
        label = "+".join(re.sub("[=:]", "-", text) for text, _ in entries)
        if not re.fullmatch(_LABEL, label):
            raise RecipeError(f"{label!r} cannot name a folder: expected letters, digits and ._+- in names and options")
        variants.append(Variant(label, (f"method={toml_value(table)}",)))
    return variants


def _read_list(key: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries of one argument of a grid, each as its text and as a table."""
    entries = list(CHOICES[key]) if text.strip() == "all" else [part.strip() for part in text.split(",")]
    read = []
    for entry in entries:
        name, *options = entry.split(":")
        pairs = [option.partition("=") for option in options]
        if not name or not all(option and equals and value for option, equals, value in pairs):
            raise RecipeError(
                f"{key}=... expects names with options after them, such as {next(iter(CHOICES[key]))} or "
                f"NAME:OPTION=VALUE, separated by commas, got {text!r}"
            )
        read.append((entry, {"name": name} | {option: read_value(value) for option, _, value in pairs}))
    return read


def read_factors(text: str | None) -> list[float]:
    """Read learning-rate factors from a text such as ``"1,10,30"``; None gives an empty list.

    Raises:
        RecipeError: a factor is no positive number, or is given twice.
    """
    try:
        factors = [float(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        factors = [-1.0]
    if any(not 0 < factor < float("inf") for factor in factors) or len(set(factors)) < len(factors):
        raise RecipeError(f"factors=... expects positive numbers that differ, such as 1,10,30, got {text!r}")
    return factors
