"""The folder of a run: the names of its files, and how they are written and read."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from biper.data.specs import DatasetSpec
from biper.errors import CheckpointError, DataError, RecipeError
from biper.io.files import atomic_write, make_folder, remove_abandoned
from biper.models.saved import MODEL_FILE
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.runs.checkpoint import CheckpointFolder
from biper.runs.fields import Fields
from biper.runs.records import MetricsRow, RunSummary

_NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS")} - {None}
"""What the system says where a disk is full, or may not be written."""

_FREE = ("description", "max_unreadable")
"""Keys of a recipe that may have another value when a run is resumed."""


def model_file_of(path: Path) -> Path:
    """The model file of a run folder; any other path is one itself."""
    return RunFolder(path).model_file if path.is_dir() else path


class RunFolder:
    """The files of a run.

    ====================================  ==========================================================
    ``recipe.toml``                       the recipe that was trained, with all overrides
    ``data.json``                         shape, classes, mean and standard deviation of data of your own
    ``environment.json``                  versions, processor, threads, git revision, seed, command
    ``metrics.jsonl``                     one JSON object for each epoch, see `biper.runs.records.MetricsRow`
    ``tensorboard/``                      the same numbers as TensorBoard events
    ``checkpoints/``                      the state that resuming needs
    ``stage1.safetensors``, ``stage2...`` the model that each stage ended with
    ``model.safetensors``                 the final model
    ``unreadable.txt``                    the images that could not be read and why, if there are any
    ``teacher/``                          the run of the teacher, if the recipe has one: a folder like this
    ``.lock``                             exists while a process trains here, see `biper.runs.lock.RunLock`
    ``summary.json``                      what the run reached, see `biper.runs.records.RunSummary`; only a
                                          finished run has it
    ====================================  ==========================================================

    The folder of an imported model has only ``model.safetensors``.

    Args:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.toml"
        self.data_file = self.path / "data.json"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = CheckpointFolder(self.path / "checkpoints")
        self.model_file = self.path / MODEL_FILE
        self.unreadable_file = self.path / "unreadable.txt"
        self.summary_file = self.path / "summary.json"
        self.teacher = self.path / "teacher"

    def stage_file(self, stage: int) -> Path:
        """The file of the model that a stage ended with; stages are counted from 1."""
        return self.path / f"stage{stage}.safetensors"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.recipe_file.exists()

    def is_free(self) -> bool:
        """Whether nothing would be lost by starting a run here: neither it nor its teacher has saved anything."""
        if self.checkpoints.newest_first() or self.model_file.exists() or self.summary_file.exists():
            return False
        return not self.teacher.is_dir() or RunFolder(self.teacher).is_free()

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Check that a run of a recipe may start or continue here. Nothing is written.

        Args:
            recipe: the recipe to train.
            resume: whether a run in the folder may be continued.

        Raises:
            RecipeError: the folder holds a run that has saved something and ``resume`` is false, or a run of another
                recipe (the message names the first key that differs), or an imported model, or a recipe that somebody
                wrote by hand; or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"{self.path} is a file: out=... expects a folder")
        if not self.exists():
            if self.model_file.exists():
                raise RecipeError(f"{self.path} holds an imported model: train into another folder with out=...")
            return
        if not resume and not self.is_free():
            raise RecipeError(
                f"{self.path} already holds a run: continue it with resume=True, or train into another folder with "
                "out=..."
            )
        there = load_recipe(self.recipe_file)
        differences = list(_differences(there.model_dump(), recipe.model_dump()))
        if not differences:
            return
        key, was, now = differences[0]
        if resume:
            raise RecipeError(
                f"{self.path} holds a run of another recipe: {key} was {was!r}, is now {now!r}; "
                "resume with the same recipe, or train into another folder with out=..."
            )
        if _read_text(self.recipe_file) != there.to_toml():
            raise RecipeError(
                f"{self.recipe_file} was written by hand and would be overwritten: {key} is {was!r} there, and "
                f"{now!r} in the recipe to train; train into another folder with out=..."
            )

    def create(self, recipe: Recipe, *, resume: bool) -> None:
        """Make the folder and write the recipe, after `check`.

        What a run without a checkpoint left there is removed, unless ``resume`` is true.

        Args:
            recipe: the recipe to train.
            resume: whether a run in the folder may be continued.

        Raises:
            RecipeError: see `check`.
        """
        self.check(recipe, resume=resume)
        if self.exists() and resume:
            return
        make_folder(self.path)
        same = self.exists() and not list(_differences(load_recipe(self.recipe_file).model_dump(), recipe.model_dump()))
        for file in (self.environment_file, self.metrics_file, self.unreadable_file, self.data_file):
            file.unlink(missing_ok=True)
        for folder in (self.tensorboard, self.teacher):
            shutil.rmtree(folder, ignore_errors=True)
        if not same:
            atomic_write(self.recipe_file, recipe.to_toml())

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote; see `biper.io.files`."""
        for folder in (self.path, self.checkpoints.path):
            remove_abandoned(folder)

    def check_facts(self, spec: DatasetSpec, classes: tuple[str, ...], *, resume: bool) -> DatasetSpec:
        """Check data of the user's own against those that the run began with; nothing is written.

        Args:
            spec: the specification of the data as they were read now.
            classes: the names of their classes.
            resume: whether a run in the folder is continued; else what is in the folder does not count.

        Returns:
            The specification with the mean and standard deviation that the run began with.

        Raises:
            DataError: the samples have another shape than when the run began, or other classes.
            CheckpointError: the file is corrupt.
        """
        if not resume or not self.data_file.exists():
            return spec
        was, mean, std = self._read_facts()
        for key, value in _facts(spec, classes).items():
            if was[key] != value:
                raise DataError(
                    f"{self.path} began with data of another {key}: {was[key]}, here is {value}; resume with the same "
                    "data, or train into another folder with out=..."
                )
        return replace(spec, mean=mean, std=std)

    def write_facts(self, spec: DatasetSpec, classes: tuple[str, ...]) -> None:
        """Write down what is known of data of the user's own, for `read_facts`; facts that are there stay."""
        if not self.data_file.exists():
            write_json(self.data_file, _facts(spec, classes) | {"mean": list(spec.mean), "std": list(spec.std)})

    def read_facts(self) -> tuple[DatasetSpec, tuple[str, ...]] | None:
        """The specification and the classes of data of the user's own; None where the recipe names their data set.

        Raises:
            CheckpointError: the file is corrupt.
        """
        if not self.data_file.exists():
            return None
        was, mean, std = self._read_facts()
        shape, classes = tuple(was["shape"]), tuple(was["classes"])
        spec = DatasetSpec(was["name"], "own", len(classes), shape[0], shape[-1], mean, std, own_shape=shape)
        return spec, classes

    def _read_facts(self) -> tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]:
        with _one_line_corrupt(str(self.data_file)):
            fields = Fields(json.loads(_read_text(self.data_file)))
            fields.text("name")
            lists: dict[str, list[Any]] = {}
            for key, kind in (("shape", int), ("classes", str), ("mean", int | float), ("std", int | float)):
                value = fields.document.get(key)
                if not isinstance(value, list) or not all(isinstance(part, kind) for part in value):
                    raise ValueError(f"expected a list for {key!r}, got {value!r}")
                lists[key] = value
            return {**fields.document, **lists}, tuple(lists["mean"]), tuple(lists["std"])

    def append_metrics(self, row: MetricsRow) -> int:
        """Append a row to metrics.jsonl and return the new length of the file in bytes."""
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row.to_json()) + "\n")
            file.flush()
            return file.tell()

    def truncate_metrics(self, length: int) -> None:
        """Cut metrics.jsonl to a length in bytes: a resumed run trains the epochs of the later rows again."""
        if self.metrics_file.exists() and self.metrics_file.stat().st_size > length:
            with open(self.metrics_file, "r+b") as file:
                file.truncate(length)

    def read_metrics(self) -> list[MetricsRow]:
        """The rows of metrics.jsonl, one for each finished epoch.

        Raises:
            CheckpointError: the file is corrupt.
        """
        rows = []
        for number, line in enumerate(_read_text(self.metrics_file).splitlines(), 1):
            with _one_line_corrupt(f"line {number} of {self.metrics_file}"):
                rows.append(MetricsRow.from_json(json.loads(line)))
        return rows

    def write_summary(self, summary: RunSummary) -> None:
        """Write summary.json, atomically: the run is then finished."""
        write_json(self.summary_file, summary.to_json())

    def read_summary(self) -> RunSummary | None:
        """What the run reached; None if it is not finished.

        Raises:
            CheckpointError: the file is corrupt.
        """
        if not self.summary_file.exists():
            return None
        with _one_line_corrupt(str(self.summary_file)):
            return RunSummary.from_json(json.loads(_read_text(self.summary_file)))

    def read_environment(self) -> dict[str, Any] | None:
        """Where the run was trained, as `biper.runs.environment.describe_environment` gave it; None if unknown.

        Raises:
            CheckpointError: the file is corrupt.
        """
        if not self.environment_file.exists():
            return None
        with _one_line_corrupt(str(self.environment_file)):
            return Fields(json.loads(_read_text(self.environment_file))).document


@contextmanager
def saving_into(folder: Path) -> Iterator[None]:
    """Turns an error of a disk that is full or may not be written, in the ``with`` block, into one line.

    Raises:
        CheckpointError: there is no space, or no right to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise CheckpointError(
            f"could not save {error.filename or folder}: {error.strerror}; earlier checkpoints are untouched"
        ) from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON file, atomically; see `biper.io.files.atomic_write`."""
    atomic_write(path, json.dumps(document, indent=2) + "\n")


def _read_text(path: Path) -> str:
    """The text of a file of the run; empty if there is no such file.

    Raises:
        CheckpointError: the file is no text.
    """
    if not path.exists():
        return ""
    with _one_line_corrupt(str(path)):
        return path.read_text(encoding="utf-8")


@contextmanager
def _one_line_corrupt(what: str) -> Iterator[None]:
    """Turns an error from reading JSON into a `CheckpointError` that names what is corrupt."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is corrupt: {error}") from error


def _facts(spec: DatasetSpec, classes: tuple[str, ...]) -> dict[str, Any]:
    """What must not change between the start of a run and its continuation."""
    return {"name": spec.name, "shape": list(spec.own_shape), "classes": list(classes)}


def _differences(
    was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    """The keys in which two recipes differ, with both values."""
    for key in was:
        if isinstance(was[key], dict) and isinstance(now.get(key), dict):
            yield from _differences(was[key], now[key], f"{prefix}{key}.")
        elif was[key] != now.get(key) and key not in _FREE:
            yield f"{prefix}{key}", was[key], now.get(key)
