"""Begin here: `train` makes a run from a recipe.

`train` joins the processes of the run, trains the teacher if the recipe has one, seeds the random generators, and hands
everything to `biper.training.trainer.Trainer`, which has the loop.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from biper.fast.availability import keep_freed_memory
from biper.models.saved import load_model
from biper.nn import describe_fast_path
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder, saving_into
from biper.runs.lock import RunLock
from biper.runs.records import RunSummary, TeacherResult
from biper.training.distributed.processes import PRECISION_DTYPES, Processes, join
from biper.training.images import RunImages
from biper.training.options import RunOptions
from biper.training.parts import RunParts
from biper.training.progress import Progress
from biper.training.start import begin, read_or_lock, validate
from biper.training.teacher import Teacher, load_teacher
from biper.training.trainer import Trainer


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> RunSummary:
    """Train a recipe through both stages into a run folder.

    In a process that torchrun started, this trains together with the other processes that make the same call: each
    takes its share of every batch, and process 0 alone writes files and shows progress.

    Args:
        recipe: the recipe; see `biper.load_recipe`.
        out: the run folder, which is made if it does not exist; `biper.runs.folder.RunFolder` lists its files.
        options: where and how to compute; default ``RunOptions()``.
        progress: shows the progress of the run; default nothing.
        **changes: single options that differ from ``options``: ``data_dir``, ``device``, ``precision``, ``workers``,
            ``resume``, ``step_timeout``, ``compiled``, ``cuda_graphs``, ``seconds`` and ``start_from``, see
            `biper.training.options.RunOptions`. For example, ``train(recipe, out, device="cpu", resume=True)``.

    Returns:
        What the run reached: the content of ``summary.json``. Its values can also be read as in a dictionary,
        ``summary["stage2"]["test_accuracy"]``.

    Raises:
        TypeError: there is no option of that name.
        RecipeError: ``out`` holds a run and ``resume`` is false, or a run of another recipe, or one with another
            ``precision``, ``compiled`` or ``start_from``; or another process trains there; or the processes cannot
            share a batch evenly. A folder that has no checkpoint is free.
        ModelError: there is no such device or precision, or the network cannot compute images of this size.
        DataError: the data is missing or corrupt, or too many images cannot be read.
        CheckpointError: a checkpoint could not be written, or is not of this recipe; or ``start_from`` holds another
            network; or a file of the run is corrupt.
        NonFiniteLossError: the loss or a gradient became NaN or infinite.
        TrainingInterrupted: the process received SIGINT (Ctrl-C) or SIGTERM, or ``seconds`` are over; everything is
            saved.
        LostProcessError: another process died or did not answer.
    """
    return train_parts(recipe, out, RunParts(), (options or RunOptions()).changed(changes, "train"), progress)


def train_parts(
    recipe: Recipe, out: str | Path, parts: RunParts, options: RunOptions, progress: Progress | None = None
) -> RunSummary:
    """Train as `train` does, with parts of the run that are objects and not names in the recipe.

    Args:
        recipe, out, options, progress: see `train`.
        parts: the network or the data.

    Raises:
        BiperError: see `train`.
    """
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    parts = parts.with_recipe(recipe)
    with join(options.device, options.precision, options.step_timeout) as processes:
        if progress is None or not processes.rank_zero:
            progress = Progress()
        options = replace(options, resume=options.resume or processes.restarted)
        return _train_into(RunFolder(out), recipe, parts, processes, options, progress, deadline=deadline)


def _train_into(
    folder: RunFolder,
    recipe: Recipe,
    parts: RunParts,
    processes: Processes,
    options: RunOptions,
    progress: Progress,
    *,
    is_teacher: bool = False,
    deadline: float | None = None,
) -> RunSummary:
    """Train a recipe into its folder, after its teacher; a finished run is not trained again."""
    recipe.require_even_shares(processes.count)
    lock = RunLock(folder.path)
    with ExitStack() as stack:
        stack.callback(lock.release)
        stack.enter_context(saving_into(folder.path))
        summary = processes.on_rank_zero(lambda: read_or_lock(folder, recipe, options, lock))
        if summary is not None:
            return summary
        images = validate(folder, recipe, parts, processes, options, progress)
        processes.on_rank_zero(lambda: begin(folder, recipe, parts, processes, options, lock, images))
        images.unreadable.write()
        teacher = _make_teacher(folder, recipe, parts, processes, options, progress, images, deadline)
        keep_freed_memory()
        processes.fabric.seed_everything(recipe.seed, verbose=False)
        trainer = Trainer(
            recipe,
            folder,
            parts,
            processes,
            options,
            progress,
            images,
            teacher=teacher,
            is_teacher=is_teacher,
            deadline=deadline,
        )
        device = processes.fabric.device.type
        fast_path = describe_fast_path(trainer.module, device, PRECISION_DTYPES[options.precision], options.compiled)
        progress.message(banner(recipe, folder, images))
        progress.message(f"{options.precision} on {device}, channels-last, fused optimizer; {fast_path}")
        return trainer.run()


def banner(recipe: Recipe, folder: RunFolder, images: RunImages) -> str:
    """What is trained, on what, for how long and into which folder, in a line for people."""
    network = f"{recipe.model.name} {recipe.model.bits}"
    alone = images.test_name == "test" and images.processes.count == 1  # else each process has a share of them
    scored = f", {len(images.test):,} to test" if alone else ""
    epochs = " + ".join(str(stage.epochs) for stage in recipe.stages)
    return (
        f"{folder.path}: {network} on {recipe.data.name}, {len(images.train):,} images to train on{scored}; "
        f"{epochs} epochs, batches of {recipe.data.batch_size}"
    )


def _make_teacher(
    folder: RunFolder,
    recipe: Recipe,
    parts: RunParts,
    processes: Processes,
    options: RunOptions,
    progress: Progress,
    images: RunImages,
    deadline: float | None,
) -> Teacher | None:
    """The teacher that a recipe asks for: a saved one, or one that is trained in the folder ``teacher/`` of the run."""
    settings = recipe.teacher
    if settings is None or settings.share == 0:
        return None
    dtype = torch.float64 if options.precision == "float64" else torch.float32
    if recipe.saved_teacher is not None:
        return Teacher(load_teacher(recipe.saved_teacher, parts, images), settings, processes.fabric, dtype)
    teacher_recipe, teacher_folder = recipe.of_teacher, RunFolder(folder.teacher)
    assert teacher_recipe is not None
    progress.message(
        f"training the teacher first, {teacher_recipe.model.name} in full precision, {settings.epochs} epochs: "
        f"{teacher_folder.path}"
    )
    options = replace(options, resume=True, start_from=None)
    summary = _train_into(
        teacher_folder, teacher_recipe, parts, processes, options, progress, is_teacher=True, deadline=deadline
    )
    module, info = load_model(teacher_folder.model_file, factory=parts.factory)
    result = TeacherResult(info.name, summary.stages[0], summary.seconds)
    return Teacher(module, settings, processes.fabric, dtype, result)
