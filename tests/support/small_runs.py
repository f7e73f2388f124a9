"""Small runs of the digits recipe in a process of their own, whose operations on files are watched."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from biper.io.tensors import load_tensors
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.training.run import train
from support.disk import Step, watch
from support.processes import alone

RUN = "run"
"""The name of the run folder below the folder that is watched."""


def recipe() -> Recipe:
    """Three epochs of the first stage and two of the second, of a few batches each."""
    changes = ["stage1.epochs=3", "stage2.epochs=2", "stage1.warmup_epochs=1.0", "data.batch_size=480"]
    return load_recipe("digits", changes)


def weights_hash(root: Path) -> str:
    """The hash of the final weights of a run."""
    return hashlib.sha256((root / RUN / "model.safetensors").read_bytes()).hexdigest()


def run(root: Path, *, resume: bool = False, kill_after: float | None = None) -> Any:
    """Train, without watching.

    Returns:
        None, or the error, or the exit status of a process that was killed; see `support.processes.alone`.
    """
    return alone(_train, root, resume, kill_after=kill_after)


def watched(root: Path, number: int = -1, verdict: str = "kill", *, resume: bool = False) -> Any:
    """Train, and kill the process in operation ``number``, or let the disk be full from there on.

    Returns:
        The steps that were recorded, and the error with which the run ended, or None; or the exit status of the killed
        process.
    """
    return alone(_watched, root, number, verdict, resume)


def newest_checkpoint(root: Path) -> str:
    """The name of the newest checkpoint of a run, after reading every file of the run; empty if there is none.

    A file that is not whole is an error, also a checkpoint that resuming would skip.
    """
    folder = RunFolder(root / RUN)
    for file in (folder.stage_file(1), folder.stage_file(2), folder.model_file):
        if file.exists():
            load_tensors(file)
    folder.read_environment()
    if folder.read_summary() is not None:
        assert folder.model_file.exists(), "a run is finished, and its model is not there"
    folder.check(recipe(), resume=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = folder.checkpoints.load_newest()
    return "" if found is None else found[0].name


def _train(root: Path, resume: bool) -> None:
    train(recipe(), root / RUN, device="cpu", workers=0, resume=resume)


def _watched(root: Path, number: int, verdict: str, resume: bool) -> tuple[list[Step], Exception | None]:
    failed = None
    with watch(root, lambda now: verdict if now == number else None) as watcher:
        try:
            _train(root, resume)
        except Exception as error:
            failed = error
    return watcher.steps, failed
