"""How a run starts: everything is checked before the run folder is made, and the folder belongs to one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from biper.errors import CheckpointError, ModelError
from biper.io.files import make_folder
from biper.models.own import OWN, require_outputs
from biper.models.saved import ModelInfo
from biper.recipes.schema import Recipe
from biper.runs.environment import describe_environment
from biper.runs.folder import RunFolder, write_json
from biper.runs.lock import RunLock
from biper.runs.records import RunSummary
from biper.training.distributed.processes import Processes
from biper.training.identity import check_identity, describe_identity
from biper.training.images import RunImages
from biper.training.initial_weights import take_weights_
from biper.training.options import RunOptions
from biper.training.parts import RunParts, describe_factory
from biper.training.progress import Progress
from biper.training.teacher import digest, load_teacher, teacher_file

_TEACHER = "teacher_sha256"
"""The key of ``environment.json`` with the SHA-256 of a saved teacher."""


def read_or_lock(folder: RunFolder, recipe: Recipe, options: RunOptions, lock: RunLock) -> RunSummary | None:
    """Check a run folder before anything is written: what a finished run reached, or else None with the folder locked.

    A folder that does not exist is neither made nor locked.
    """
    there = folder.path.is_dir()
    if there and not folder.summary_file.exists():
        lock.acquire()
    folder.check(recipe, resume=options.resume)
    summary = folder.read_summary()
    if there and summary is None and options.resume:
        began = _identity_before(folder)
        check_identity(folder.path, began, options, saved=bool(folder.checkpoints.newest_first()))
        _check_teacher(folder, recipe, began)
    return summary


def _check_teacher(folder: RunFolder, recipe: Recipe, began: dict[str, Any]) -> None:
    """Check that the file of a saved teacher is the one that a run began with.

    Raises:
        CheckpointError: its content has changed, or it cannot be read.
    """
    path = recipe.saved_teacher
    if path is not None and _TEACHER in began and digest(path) != began[_TEACHER]:
        raise CheckpointError(
            f"{teacher_file(path)} is not the teacher that {folder.path} began with: its SHA-256 was "
            f"{began[_TEACHER]}; give back the old file, or train into another folder with out=..."
        )


def validate(
    folder: RunFolder, recipe: Recipe, parts: RunParts, processes: Processes, options: RunOptions, progress: Progress
) -> RunImages:
    """Load the images of a run, and check the network and its first weights, before the run folder is made."""
    images = RunImages(recipe, folder, processes, options, progress, parts.dataset)
    info = ModelInfo.of_recipe(recipe, images.classes, images.spec)
    if recipe.model.name == OWN:
        module = info.create(parts.factory)
        require_outputs(module, images.examples(2), info.num_classes)
    else:
        module = _made_and_tried(info, images)
    if options.start_from is not None and not folder.checkpoints.newest_first():
        take_weights_(module, info, Path(options.start_from), recipe.method.stages[0], parts.factory)
    if recipe.saved_teacher is not None:
        load_teacher(recipe.saved_teacher, parts, images)
    return images


def _made_and_tried(info: ModelInfo, images: RunImages) -> nn.Module:
    """A network of biper, which has computed an image of the size that it is to be trained on."""
    module = info.create()
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *images.shape))
    except RuntimeError as error:
        raise ModelError(
            f"{info.name} cannot compute images of {images.shape[-1]} pixels: {str(error).splitlines()[0]}"
        ) from error
    return module


def begin(
    folder: RunFolder,
    recipe: Recipe,
    parts: RunParts,
    processes: Processes,
    options: RunOptions,
    lock: RunLock,
    images: RunImages,
) -> None:
    """Make and lock the run folder, and write what a run writes before it trains."""
    make_folder(folder.path)
    lock.acquire()
    began = _identity_before(folder) if options.resume else {}
    folder.create(recipe, resume=options.resume)
    folder.remove_temporary_files()
    if images.spec.own_shape:
        folder.write_facts(images.spec, images.classes)
    device, precision = str(processes.fabric.device), options.precision
    environment = describe_environment(seed=recipe.seed, device=device, precision=precision, processes=processes.count)
    environment |= describe_factory(parts.factory, recipe)
    if recipe.saved_teacher is not None:
        environment[_TEACHER] = digest(recipe.saved_teacher)
    write_json(folder.environment_file, environment | describe_identity(options) | began)


def _identity_before(folder: RunFolder) -> dict[str, Any]:
    """The identity that a run in a folder has recorded; empty where it has recorded none, or the record is corrupt."""
    try:
        found = folder.read_environment() or {}
    except CheckpointError:
        return {}
    return {key: found[key] for key in (*describe_identity(RunOptions()), _TEACHER) if key in found}
