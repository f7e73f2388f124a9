"""The one training loop: both stages in a row, evaluated after each epoch, resumable at every step.

Read `Trainer.run` first; the other methods are its parts, in the order in which they run. Several processes run the
same loop side by side, each on its share of every batch. What process 0 does for all of them is inside
``self.processes.on_rank_zero(...)``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from biper.binarize.check import check_binary_inputs, warn_of_one_signed_inputs
from biper.data.workers import one_line_worker_errors
from biper.errors import NonFiniteLossError, TrainingInterrupted
from biper.measure.monitor import LayerMonitor
from biper.measure.quantization_error import quantization_errors, relative_errors
from biper.measure.size import model_sizes
from biper.models.saved import ModelInfo, load_state, save_model
from biper.nn import set_progress_, set_stage_
from biper.recipes.schema import Recipe, StageRecipe
from biper.runs.events import EventLog
from biper.runs.folder import RunFolder
from biper.runs.metrics import MetricsLog
from biper.runs.records import MetricsRow, RunSummary, SplitScore, StageResult
from biper.runs.state import Position, entries, pack_state, restore_optimizer, restore_random, restoring
from biper.training.average import WeightAverage
from biper.training.batch_norm_statistics import DEFAULT_IMAGES, measure_statistics_
from biper.training.distributed.processes import Processes
from biper.training.distributed.sync_batch_norm import synchronize_batch_norms_
from biper.training.identity import check_identity, describe_identity
from biper.training.images import RunImages
from biper.training.initial_weights import check_checkpoint, take_weights_
from biper.training.interruption import StopRequest
from biper.training.make_steps import make_steps
from biper.training.optimizer import make_optimizer
from biper.training.options import RunOptions
from biper.training.parts import RunParts
from biper.training.progress import Progress
from biper.training.recorded import release_
from biper.training.schedules import learning_rate
from biper.training.step import TrainingStep
from biper.training.steps import NonFinite
from biper.training.teacher import Teacher

Checkpoint = tuple[Path, dict[str, Tensor], dict[str, Any]]
"""A checkpoint that was read: its file, its tensors and its document."""


class Trainer:
    """One run: a recipe, its data, model and optimizer, and the position that training has reached.

    Args:
        recipe: what to train.
        folder: where the run is written.
        parts: the network or the data, where they are objects of the caller.
        processes: the processes that train together.
        options: where and how to compute.
        progress: shows the progress of the run.
        images: what to train on.
        teacher: the network to learn from, if there is one.
        is_teacher: whether this run trains the teacher of another run.
        deadline: the time of `time.monotonic` at which the run saves everything and stops; None for never.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        parts: RunParts,
        processes: Processes,
        options: RunOptions,
        progress: Progress,
        images: RunImages,
        *,
        teacher: Teacher | None = None,
        is_teacher: bool = False,
        deadline: float | None = None,
    ) -> None:
        self.recipe, self.folder, self.processes = recipe, folder, processes
        self.options, self.progress, self.fabric = options, progress, processes.fabric
        self.teacher, self.is_teacher = teacher, is_teacher
        self.images, self.batches = images, images.batches
        self.factory = parts.factory
        self.info = ModelInfo.of_recipe(recipe, self.images.classes, self.images.spec)
        self.module = self.info.create(parts.factory).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.metrics = MetricsLog(folder)
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        self._started = time.monotonic()
        self._stop = StopRequest(needs_parent=processes.count > 1, deadline=deadline)

    def run(self) -> RunSummary:
        """Train both stages, from the newest checkpoint if there is one; see `biper.train`."""
        found = self.processes.on_rank_zero(self.folder.checkpoints.load_newest)
        if found is not None:
            with restoring(found[0]):
                self._restore_model(*found)
        elif self.options.start_from is not None:
            take_weights_(
                self.module, self.info, Path(self.options.start_from), self.recipe.method.stages[0], self.factory
            )
        self.processes.on_rank_zero(lambda: self._restore_metrics({} if found is None else found[1]))
        if self.recipe.model.sync_batch_norm and self.processes.count > 1:
            synchronize_batch_norms_(self.module, self.fabric.device, self.processes.step_group)
        self.model = self.processes.set_up(self.module, self.images.shape, compiled=self.options.compiled)
        steps = [stage.epochs * len(self.batches) for stage in self.recipe.stages]
        self.progress.begin(sum(steps), self._steps_done(), "teacher: " if self.is_teacher else "")
        try:
            with self._stop, one_line_worker_errors(), closing(EventLog(self.folder.tensorboard)) as self._events:
                for number in range(self.position.stage, len(self.recipe.stages) + 1):
                    if number > self.position.stage:
                        self.position, found = self.position.next_stage(), None
                    self._run_stage(self.recipe.stages[number - 1], found)
        finally:
            self.progress.end()
        return self._finish()

    def _run_stage(self, stage: StageRecipe, found: Checkpoint | None) -> None:
        """Train one stage, from a checkpoint of this stage if one was found."""
        method = self.recipe.method
        set_stage_(self.module, method.stages[self.position.stage - 1])
        self.best = None
        self.average = WeightAverage(
            self.module, stage.average_epochs * len(self.batches), self.batches, self.processes
        )
        optimizer = make_optimizer(self.module, stage, method.learning_rate_factor)
        self.optimizer = cast(torch.optim.Optimizer, self.fabric.setup_optimizers(optimizer))
        if found is not None:
            _, tensors, document = found
            with restoring(found[0]):
                restore_optimizer(self.optimizer, tensors, document)
                restore_random(tensors, document)
                self.average.restore(tensors)
            self.best = entries(tensors, "best/") or None
        self.monitor = LayerMonitor(self.module, found[1] if found is not None else None, self.position.step)
        step = TrainingStep(
            self.model,
            self.module,
            stage,
            self.recipe.data.accumulate,
            self.processes,
            self.teacher,
            scales_loss=self.options.precision == "float16",
        )
        self.steps = make_steps(step, self.optimizer, self.options, self.progress)
        while self.position.epoch < stage.epochs:
            self._run_epoch(stage)
        self._end_stage()

    def _run_epoch(self, stage: StageRecipe) -> None:
        """Train the rest of an epoch, evaluate the model, and save a checkpoint."""
        position = self.position
        label = f"stage {position.stage} epoch {position.epoch + 1}/{stage.epochs}"
        started, first_images = time.monotonic(), position.images
        self.model.train()
        for images, labels in self.batches.epoch(position.stage, position.epoch, position.step):
            if (position.stage, position.epoch, position.step) == (1, 0, 0):
                self._check_signs(images)
            before = position.images
            self._train_step(stage, images, labels)
            self.progress.step(label, position.images - before, self.steps.loss, self.steps.accuracy)
            if self.steps.may_communicate(position) and self.processes.any(self._stop.requested):
                self._interrupt()
        with self._stopping_at_bad_numbers():
            self.steps.read(position)
        seconds = time.monotonic() - started
        row = MetricsRow(
            stage=position.stage,
            epoch=position.epoch + 1,
            epochs=stage.epochs,
            train_loss=position.train_loss,
            train_accuracy=position.train_accuracy,
            learning_rate=self.steps.learning_rate,
            images_per_second=(position.images - first_images) / max(seconds, 1e-9),
            score=self._evaluate_epoch(position.epoch + 1),
            layers=self.monitor.end_epoch(),
        )
        position.end_epoch()
        self.processes.on_rank_zero(lambda: self._record(row))
        self._save_checkpoint()

    def _check_signs(self, images: Tensor) -> None:
        """Warn of binary layers whose input has one sign; all processes run the model, as its batch norms may need."""
        shares = check_binary_inputs(self.module, images.to(next(self.module.parameters()).dtype))
        if self.processes.rank_zero:
            warn_of_one_signed_inputs(shares)

    def _train_step(self, stage: StageRecipe, images: Tensor, labels: Tensor) -> None:
        """One step of gradient descent. A loss or gradient that is not finite is an error; see `Steps.take`."""
        position = self.position
        done = position.epoch * len(self.batches) + position.step
        self.steps.set_learning_rate(learning_rate(stage, done, len(self.batches)))
        set_progress_(self.module, (done + 1) / (stage.epochs * len(self.batches)))
        with self._stopping_at_bad_numbers():
            self.steps.take(position, images, labels)
        self.average.add_step(done + 1)
        self.monitor.end_step(position.step)

    def _evaluate_epoch(self, epoch: int) -> SplitScore:
        """The score after an epoch, on the held-out images if the recipe has them, else on the test images.

        It is the score of the average of the weights, if the recipe has one.
        """
        self.processes.share_buffers_(self.module)
        with self.average.applied(self.position.stage, epoch - 1):
            if self.images.held_out is None:
                return self._test()
            scores = self.images.scores(self.module, self.images.held_out)
            if scores.accuracy > self.position.best_accuracy:
                self.position.best_accuracy, self.position.best_epoch = scores.accuracy, epoch
                self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        return SplitScore("held_out", scores.loss, scores.accuracy)

    def _test(self, *, mixed: bool = True) -> SplitScore:
        """The score on the test images, or on the training images if the recipe says so."""
        scores = self.images.scores(self.module, self.images.test, mixed=mixed)
        self.scored_images = scores.images
        return SplitScore(self.images.test_name, scores.loss, scores.accuracy)

    def _record(self, row: MetricsRow) -> None:
        """Write the row of an epoch to metrics.jsonl and to TensorBoard, and show it."""
        self.position.metrics_bytes = self.metrics.append(row)
        numbers = dict(row.scalars())
        for measure, values in row.layers.to_json().items():
            numbers |= {f"{measure}/{layer}": value for layer, value in values.items()}
        self._events.write({f"stage{row.stage}/{key}": number for key, number in numbers.items()}, row.epoch)
        self.progress.epoch(row)

    def _end_stage(self) -> None:
        """Take the weights of the selected epoch, score them on the test images, and write the model of the stage.

        Without a selected epoch, they are the average of the weights, if the recipe has one, or those of the last step.

        These scores are computed in the precision of the weights, as `biper.evaluate` computes them; those of an epoch
        are computed in the precision of training.
        """
        position = self.position
        release_(self.module)
        if self.best is not None:
            load_state(self.module, self.best, "the best epoch", self.info.name)
        else:
            self.average.apply_(position.stage, position.epoch - 1)
        self._measure_statistics()
        result = StageResult(
            epochs=position.epoch,
            selected_epoch=position.best_epoch if self.best is not None else position.epoch,
            score=self._test(mixed=False),
            quantization_error=quantization_errors(self.module),
            relative_error=relative_errors(self.module),
        )
        position.results = (*position.results[: position.stage - 1], result)
        self.processes.on_rank_zero(lambda: save_model(self.folder.stage_file(position.stage), self.module, self.info))

    def _measure_statistics(self) -> None:
        """Measure the statistics of batch norms anew, in the precision of the weights, where the recipe says so.

        Where it says nothing, this is done after training in reduced precision.
        """
        images = self.recipe.stages[self.position.stage - 1].batch_norm_images
        if images is None:
            images = DEFAULT_IMAGES if self.options.is_mixed else 0
        if images:
            measure_statistics_(
                self.module,
                self.batches,
                self.processes,
                stage=self.position.stage,
                epoch=self.position.epoch - 1,
                images=images,
                mixed=False,
            )

    def _finish(self) -> RunSummary:
        """Write the final model and the summary."""
        self.processes.on_rank_zero(lambda: save_model(self.folder.model_file, self.module, self.info))
        teacher = None if self.teacher is None else self.teacher.result
        seconds = self.position.seconds + time.monotonic() - self._started
        summary = RunSummary(
            recipe=self.recipe.model_dump(mode="json"),
            selection=self.recipe.data.selection,
            stages=self.position.results,
            scored_images=self.scored_images,
            sizes=model_sizes(self.module),
            seconds=round(seconds + (0 if teacher is None else teacher.seconds), 3),
            model=str(self.folder.model_file),
            teacher=teacher,
        )
        self.processes.on_rank_zero(lambda: self.folder.write_summary(summary))
        return summary

    def _steps_done(self) -> int:
        earlier = sum(stage.epochs for stage in self.recipe.stages[: self.position.stage - 1])
        return (earlier + self.position.epoch) * len(self.batches) + self.position.step

    def _save_checkpoint(self) -> None:
        """Save everything that resuming needs; see `biper.runs.checkpoint.CheckpointFolder`."""
        now = time.monotonic()
        self.position.seconds += now - self._started
        self._started = now

        def save() -> None:
            tensors, document = pack_state(self.position, self.module, self.optimizer, self.best)
            tensors |= self.monitor.state() | self.metrics.state() | self.average.state()
            document |= {
                "options": describe_identity(self.options),
                "recipe": self.recipe.model_dump(),
                "training_images": len(self.batches.split),
            }
            document["processes"] = self.processes.count
            self.folder.checkpoints.save(self.position, tensors, document)

        self.processes.on_rank_zero(save)

    def _restore_model(self, path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        """Load the weights and the position of a checkpoint, after checking that it belongs to this run."""
        check_checkpoint(path, document, self.recipe, len(self.batches.split))
        check_identity(path, document.get("options", {}), replace(self.options, start_from=None), saved=True)
        load_state(self.module, entries(tensors, "model/"), str(path), self.info.name)
        self.position = Position.from_json(document["position"])
        self.progress.message(
            f"resuming after stage {self.position.stage} epoch {self.position.epoch} step {self.position.step} ({path})"
        )
        if (wrote := document.get("processes", 1)) != self.processes.count:
            self.progress.message(
                f"{wrote} processes wrote this checkpoint and {self.processes.count} continue: the batches are the "
                "same, but sums round differently, so that the weights differ in their last bits"
            )

    def _restore_metrics(self, saved: dict[str, Tensor]) -> None:
        """Bring metrics.jsonl to the position of the run."""
        stages = enumerate(self.recipe.stages[: self.position.stage - 1], 1)
        done = [(number, epoch + 1) for number, stage in stages for epoch in range(stage.epochs)]
        done += [(self.position.stage, epoch + 1) for epoch in range(self.position.epoch)]
        if (repaired := self.metrics.restore(saved, self.position.metrics_bytes, done)) is not None:
            self.progress.message(repaired)
        self.position.metrics_bytes = len(self.metrics.content)

    @contextmanager
    def _stopping_at_bad_numbers(self) -> Iterator[None]:
        """Turns a number that is not finite into an error that says where it happened and what is left."""
        try:
            yield
        except NonFinite as bad:
            position, newest = self.position, self.folder.checkpoints.newest_first()
            kept = f"the last good checkpoint is {newest[0]}" if newest else "no checkpoint was written yet"
            table = "teacher" if self.is_teacher else f"stage{position.stage}"
            raise NonFiniteLossError(
                f"the {bad.what} became {bad.value} at stage {position.stage} epoch {position.epoch + 1} step "
                f"{bad.step}{'' if bad.updated else ', before its update'}; {kept}. A lower {table}.learning_rate may "
                "help"
            ) from None

    def _interrupt(self) -> None:
        """Save everything and stop."""
        with self._stopping_at_bad_numbers():
            self.steps.read(self.position)
        self._save_checkpoint()
        position = self.position
        whose = "the teacher's " if self.is_teacher else ""
        raise TrainingInterrupted(
            f"stopped after {whose}stage {position.stage} epoch {position.epoch + 1} step {position.step}, everything "
            "is saved; resume=True continues from there"
        )
