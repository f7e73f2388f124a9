"""A run is a folder; this names what is in it and writes it so that nothing is half there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biper.errors import RecipeError
from biper.io.files import atomic_write
from biper.models.saved import MODEL_FILE
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.runs.checkpoint import CheckpointFolder

_FREE = ("description", "max_unreadable")
"""Recipe keys that may differ when a run is resumed."""


class RunFolder:
    """The files of a run.

    ====================================  ==========================================================
    ``recipe.toml``                       the recipe as it was resolved, overrides included
    ``environment.json``                  versions, processor, threads, git revision, seed, command
    ``metrics.jsonl``                     one JSON object an epoch; what is of layers, see `biper.measure.flips.Watch`
    ``tensorboard/``                      the same as TensorBoard events
    ``checkpoints/``                      what resuming needs
    ``stage1.safetensors``, ``stage2...`` the model that each stage ended with
    ``model.safetensors``                 the final model
    ``unreadable.txt``                    images that could not be read and why, one a line; there if there are any
    ``teacher/``                          the run of the teacher, where the recipe has one: a folder like this
    ``summary.json``                      what the run reached; there when, and only when, it is complete
    ====================================  ==========================================================

    An imported model is a folder with ``model.safetensors`` alone.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.toml"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = CheckpointFolder(self.path / "checkpoints")
        self.model_file = self.path / MODEL_FILE
        self.unreadable_file = self.path / "unreadable.txt"
        self.summary_file = self.path / "summary.json"
        self.teacher = self.path / "teacher"

    def stage_file(self, stage: int) -> Path:
        """The model that a stage ended with."""
        return self.path / f"stage{stage}.safetensors"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.recipe_file.exists()

    def create(self, recipe: Recipe, *, resume: bool) -> None:
        """Make the folder for a recipe, or check that the run in it is of the same recipe.

        Raises:
            RecipeError: there is a run already and ``resume`` is false, or it has another recipe (the first key
                that differs is named); or there is an imported model.
        """
        if self.exists():
            if not resume:
                raise RecipeError(
                    f"{self.path} already holds a run: add --resume to go on, or --out for another folder"
                )
            differences = list(_differences(load_recipe(self.recipe_file).model_dump(), recipe.model_dump()))
            if differences:
                key, was, now = differences[0]
                raise RecipeError(
                    f"{self.path} holds a run of another recipe: {key} was {was!r}, is now {now!r}; "
                    "resume with the same recipe and options, or train into another folder with --out"
                )
            return
        if self.model_file.exists():
            raise RecipeError(f"{self.path} holds an imported model; train into another folder with --out")
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"{self.path} is a file; --out expects a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.recipe_file, recipe.to_toml())

    def append_metrics(self, row: Mapping[str, Any]) -> int:
        """Append a row to metrics.jsonl and return the file's new length in bytes."""
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            return file.tell()

    def truncate_metrics(self, length: int) -> None:
        """Drop what was appended to metrics.jsonl after it had this length: those epochs are done again."""
        if self.metrics_file.exists() and self.metrics_file.stat().st_size > length:
            with open(self.metrics_file, "r+b") as file:
                file.truncate(length)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl, one a finished epoch."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None while the run is not complete."""
        if not self.summary_file.exists():
            return None
        return json.loads(self.summary_file.read_text(encoding="utf-8"))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON file, atomically."""
    atomic_write(path, json.dumps(document, indent=2) + "\n")


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Any:
    for key in was:
        if isinstance(was[key], dict) and isinstance(now.get(key), dict):
            yield from _differences(was[key], now[key], f"{prefix}{key}.")
        elif was[key] != now.get(key) and key not in _FREE:
            yield f"{prefix}{key}", was[key], now.get(key)
