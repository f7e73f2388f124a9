"""A run from its recipe to its summary: the folder, the processes, the seed, and then the loop of `Trainer`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biper.fast.availability import keep_freed_memory
from biper.nn import describe_fast_path
from biper.recipes.schema import Recipe
from biper.runs.environment import describe_environment
from biper.runs.folder import RunFolder, write_json
from biper.training.distributed.launch import STEP_TIMEOUT
from biper.training.distributed.processes import PRECISION_DTYPES, Processes, join
from biper.training.progress import Progress
from biper.training.teacher import Teacher
from biper.training.trainer import Trainer


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    step_timeout: float = STEP_TIMEOUT,
    compiled: bool = False,
    start_from: str | Path | None = None,
) -> dict[str, Any]:
    """Train a recipe through both stages into a run folder.

    In a process that torchrun started, this trains together with the others that call it with the same arguments:
    each takes its share of every batch, and process 0 alone writes and shows progress.

    Args:
        recipe: what to train; see `biper.load_recipe`.
        out: the run folder, see `RunFolder` for what is in it; made if it is not there.
        data_dir: where the data is; see `biper.load_dataset`.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        precision: ``"float32"``, ``"float64"``, or the mixed ``"bfloat16"`` and ``"float16"``.
        workers: processes that decode images, see `biper.load_dataset`; changes no result.
        resume: go on from the newest valid checkpoint in ``out``, or start if there is none. Processes that torchrun
            started anew do so without being told.
        progress: what shows progress; default nothing.
        step_timeout: seconds that a process waits for the others within a training step before it gives up.
        compiled: train through `torch.compile`, which takes a minute or two first.
        start_from: a model file, or a run folder, whose weights are taken in place of random ones: of the same network.

    Returns:
        The content of ``summary.json``.

    Raises:
        RecipeError: ``out`` holds a run and ``resume`` is false, or a run of another recipe; or the processes cannot
            share a batch evenly.
        DataError: the data is missing or corrupt, or too many images cannot be read.
        CheckpointError: a checkpoint could not be written, or is not of this recipe; or ``start_from`` holds another
            network.
        NonFiniteLossError: the loss or a gradient became NaN or infinite.
        TrainingInterrupted: Ctrl-C or SIGTERM; everything is saved.
        LostProcessError: another process died or did not answer.
    """
    with join(device, precision, step_timeout) as processes:
        if progress is None or not processes.first:
            progress = Progress()
        run = _Run(processes, data_dir, precision, workers, progress, compiled)
        return run.train(recipe, RunFolder(out), resume=resume or processes.restarted, start_from=start_from)


@dataclass(frozen=True)
class _Run:
    """How to train, whatever it is."""

    processes: Processes
    data_dir: str | Path | None
    precision: str
    workers: int | None
    progress: Progress
    compiled: bool

    def train(
        self,
        recipe: Recipe,
        folder: RunFolder,
        *,
        resume: bool,
        start_from: str | Path | None = None,
        student: RunFolder | None = None,
    ) -> dict[str, Any]:
        """A recipe into its folder, after its teacher; ``student`` is whose teacher it is itself."""
        processes, fabric = self.processes, self.processes.fabric
        recipe.require_even_shares(processes.count)
        processes.alone(lambda: folder.create(recipe, resume=resume))
        if (summary := processes.alone(folder.read_summary)) is not None:
            return summary
        teacher = self._teacher(recipe, folder)
        keep_freed_memory()
        fabric.seed_everything(recipe.seed, verbose=False)
        environment = describe_environment(
            seed=recipe.seed, device=str(fabric.device), precision=self.precision, processes=processes.count
        )
        processes.alone(lambda: write_json(folder.environment_file, environment))
        trainer = Trainer(
            recipe,
            folder,
            processes,
            self.data_dir,
            self.progress,
            workers=self.workers,
            scales_loss=self.precision == "float16",
            compiled=self.compiled,
            teacher=teacher,
            student=student,
        )
        if start_from is not None:
            trainer.start_from(Path(start_from))
        on = fabric.device.type
        fast = describe_fast_path(trainer.module, on, PRECISION_DTYPES[self.precision], self.compiled)
        self.progress.message(f"{self.precision} on {on}, channels-last, fused optimizer; {fast}")
        return trainer.run()

    def _teacher(self, recipe: Recipe, folder: RunFolder) -> Teacher | None:
        """The teacher that a recipe asks for, trained in the run folder's ``teacher/`` if it is not there yet."""
        of_teacher = recipe.of_teacher
        if recipe.teacher is None or of_teacher is None:
            return None
        place = RunFolder(folder.teacher)
        self.progress.message(
            f"a teacher first, {of_teacher.model.name} in full precision, {recipe.teacher.epochs} epochs: {place.path}"
        )
        summary = self.train(of_teacher, place, resume=True, student=folder)
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        return Teacher({**summary, "model": place.model_file}, recipe.teacher, self.processes.fabric, dtype)
