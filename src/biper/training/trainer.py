"""The one training loop: both stages in a row, evaluated each epoch, resumable at every step.

Read `Trainer.run` first; everything else is a detail of it. Several processes run it side by side, each on its share of
every batch; what process 0 does for all of them is inside ``self.processes.alone(...)``.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from biper.data.workers import one_line_worker_errors
from biper.errors import CheckpointError, NonFiniteLossError, TrainingInterrupted
from biper.measure.flips import Watch
from biper.measure.quantization_error import quantization_errors, relative_errors
from biper.measure.size import model_sizes
from biper.methods.settings import read_method
from biper.models.saved import ModelInfo, load_model, load_state, save_model
from biper.nn import set_progress_, set_stage_
from biper.nn.penalty import periodic_penalty
from biper.recipes.schema import ModelRecipe, Recipe, StageRecipe
from biper.runs.folder import RunFolder, write_json
from biper.runs.state import Position, entries, pack_state, restore_optimizer, restore_random
from biper.training.distributed.processes import Processes
from biper.training.distributed.sync_batch_norm import synchronize_batch_norms_
from biper.training.images import RunImages
from biper.training.interruption import StopRequest
from biper.training.optimizer import make_optimizer
from biper.training.progress import Progress
from biper.training.schedules import learning_rate
from biper.training.teacher import Teacher


class Trainer:
    """A run in progress: a recipe, its data, model and optimizer, and how far they are."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        processes: Processes,
        data_dir: str | Path | None,
        progress: Progress,
        *,
        workers: int | None,
        scales_loss: bool,
        compiled: bool,
        teacher: Teacher | None = None,
        student: RunFolder | None = None,
    ) -> None:
        self.recipe, self.folder, self.processes, self.progress = recipe, folder, processes, progress
        self.fabric, self.scales_loss = processes.fabric, scales_loss
        self.compiled, self.teacher = compiled, teacher
        self.teaches, self.owner = student is not None, student or folder
        self.images = RunImages(recipe, folder, processes, data_dir, workers, progress)
        self.batches, spec = self.images.batches, self.images.spec
        self.info = ModelInfo(
            name=recipe.model.name,
            dataset=recipe.data.name,
            num_classes=len(self.images.classes),
            bits=recipe.model.bits,
            frequency=recipe.model.frequency,
            mean=spec.mean,
            std=spec.std,
            classes=self.images.classes,
            image_size=self.images.image_size,
            method=recipe.method.model_dump(),
        )
        self.module = self.info.create().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        self._started = time.monotonic()
        self._stop = StopRequest(needs_parent=processes.count > 1)

    def start_from(self, path: Path) -> None:
        """Take the weights of a saved model of the same network; of quantizers what ours have too; see `train`."""
        model, info = load_model(RunFolder(path).model_file if path.is_dir() else path)
        for key in ("name", "bits", "frequency", "num_classes"):
            has, wanted = getattr(info, key), getattr(self.info, key)
            if has != wanted:
                raise CheckpointError(f"{path} has {key} {has!r}, the recipe {wanted!r}: they must be the same")
        stage = self.recipe.method.stages[0]
        theirs, ours = model.state_dict(), self.module.state_dict()
        taken = {name: value for name, value in theirs.items() if name in ours or "_quantizer." not in name}
        kept = {name: value for name, value in ours.items() if name not in theirs and "_quantizer." in name}
        load_state(self.module, taken | kept, str(path), self.info.name)
        set_stage_(self.module, stage)

    def run(self) -> dict[str, Any]:
        """Train both stages from wherever the newest checkpoint stands; see `biper.train`."""
        found = self.processes.alone(self.folder.checkpoints.load_newest)
        if found is not None:
            self._restore_model(*found)
        self.processes.alone(lambda: self.folder.truncate_metrics(self.position.metrics_bytes))
        if self.recipe.model.sync_batch_norm and self.processes.count > 1:
            synchronize_batch_norms_(self.module, self.fabric.device, self.processes.step_group)
        image_shape = self.images.spec.channels, *2 * [self.images.image_size]
        self.model = self.processes.set_up(self.module, image_shape, compiled=self.compiled)
        steps = [stage.epochs * len(self.batches) for stage in self.recipe.stages]
        self.progress.begin(sum(steps), self._steps_done(), "teacher: " if self.teaches else "")
        try:
            writer: Any = SummaryWriter(str(self.folder.tensorboard)) if self.processes.first else nullcontext()
            with self._stop, one_line_worker_errors(), writer as self._events:
                for number in range(self.position.stage, len(self.recipe.stages) + 1):
                    if number > self.position.stage:
                        self.position = Position(
                            stage=number,
                            metrics_bytes=self.position.metrics_bytes,
                            seconds=self.position.seconds,
                            results=self.position.results,
                        )
                        found = None
                    self._run_stage(self.recipe.stages[number - 1], found)
        finally:
            self.progress.end()
        return self._finish()

    def _run_stage(self, stage: StageRecipe, found: tuple[Path, dict[str, Tensor], dict[str, Any]] | None) -> None:
        """Train one stage; ``found`` is the checkpoint to go on from, if it is one of this stage."""
        set_stage_(self.module, self.recipe.method.stages[self.position.stage - 1])
        self.best = None
        self.optimizer = cast(
            torch.optim.Optimizer,
            self.fabric.setup_optimizers(make_optimizer(self.module, stage, self.recipe.method.learning_rate_factor)),
        )
        if found is not None:
            _, tensors, document = found
            restore_optimizer(self.optimizer, tensors, document)
            restore_random(tensors, document)
            self.best = entries(tensors, "best/") or None
        self.watch = Watch(self.module, found[1] if found is not None else None, self.position.step)
        while self.position.epoch < stage.epochs:
            self._run_epoch(stage)
        self._end_stage()

    def _run_epoch(self, stage: StageRecipe) -> None:
        position = self.position
        label = f"stage {position.stage} epoch {position.epoch + 1}/{stage.epochs}"
        started, first_images = time.monotonic(), position.images
        self.model.train()
        for images, labels in self.batches.epoch(position.stage, position.epoch, position.step):
            before = position.images
            self._train_step(stage, images, labels)
            loss, accuracy = position.loss_sum / position.images, position.correct / position.images
            self.progress.step(label, position.images - before, loss, accuracy)
            if self.processes.any(self._stop.requested):
                self._interrupt()
        seconds = time.monotonic() - started
        position.epoch += 1
        row: dict[str, Any] = {
            "stage": position.stage,
            "epoch": position.epoch,
            "epochs": stage.epochs,
            "train_loss": position.loss_sum / position.images,
            "train_accuracy": position.correct / position.images,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": (position.images - first_images) / max(seconds, 1e-9),
        }
        row |= self._evaluate_epoch()
        row |= self.watch.epoch()
        position.step = position.images = position.correct = 0
        position.loss_sum = 0.0
        self.processes.alone(lambda: self._record(row))
        self._save_checkpoint()

    def _train_step(self, stage: StageRecipe, images: Tensor, labels: Tensor) -> None:
        """One step of gradient descent; the update is not made if the loss or a gradient is not finite.

        The gradient is the mean of those of all processes, and of the parts that a process takes its images in.
        """
        position = self.position
        done = position.epoch * len(self.batches) + position.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, done, len(self.batches)) * group.get("learning_rate_factor", 1.0)
        set_progress_(self.module, (done + 1) / (stage.epochs * len(self.batches)))
        self.optimizer.zero_grad(set_to_none=True)
        dtype, count = next(self.module.parameters()).dtype, self.recipe.data.accumulate
        parts = list(zip(images.chunk(count), labels.chunk(count), strict=True))
        objective_sum = loss_sum = correct = 0.0
        for number, (part, answers) in enumerate(parts, 1):
            with self.fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                logits = self.model(part.to(dtype))
                loss = F.cross_entropy(logits, answers, label_smoothing=stage.label_smoothing)
                learned = loss if self.teacher is None else self.teacher.loss(part, logits, loss)
                objective = learned + periodic_penalty(self.module, stage.periodic_penalty).to(loss.device)
                self.fabric.backward(objective / len(parts))
            objective_sum += objective.item()
            loss_sum += loss.item() * len(answers)
            correct += int((logits.argmax(1) == answers).sum())
        sums = self.processes.sum([objective_sum, loss_sum, correct, len(labels)])
        objective_sum, loss_sum, correct, image_count = sums
        self._require_finite(objective_sum, "loss")
        if not self.scales_loss:  # a loss scaler skips such steps by itself
            gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
            self._require_finite(torch.nn.utils.get_total_norm(gradients).item(), "gradient")
        self.optimizer.step()
        position.step += 1
        position.images += int(image_count)
        position.loss_sum += loss_sum
        position.correct += int(correct)
        self.watch.step(position.step)

    def _require_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            position = self.position
            newest = self.folder.checkpoints.newest_first()
            kept = f"the last good checkpoint is {newest[0]}" if newest else "no checkpoint was written yet"
            table = "teacher" if self.teaches else f"stage{position.stage}"
            raise NonFiniteLossError(
                f"the {what} became {value} at stage {position.stage} epoch {position.epoch + 1} step "
                f"{position.step + 1}, before its update; {kept}. A lower {table}.learning_rate may help"
            )

    def _evaluate_epoch(self) -> dict[str, float]:
        """Scores after an epoch: on the held-out images if the recipe has them, else on the test images."""
        self.processes.share_buffers_(self.module)
        if self.images.held_out is None:
            return self._test()
        scores = self.images.scores(self.module, self.images.held_out)
        if scores.accuracy > self.position.best_accuracy:
            self.position.best_accuracy, self.position.best_epoch = scores.accuracy, self.position.epoch
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        return {"held_out_loss": scores.loss, "held_out_accuracy": scores.accuracy}

    def _test(self, *, mixed: bool = True) -> dict[str, float]:
        """Scores on the test images; on the training images, and called fit, if the recipe says so."""
        scores = self.images.scores(self.module, self.images.test, mixed=mixed)
        self.test_images = scores.images
        name = self.images.test_name
        return {f"{name}_loss": scores.loss, f"{name}_accuracy": scores.accuracy}

    def _record(self, row: dict[str, Any]) -> None:
        """Write an epoch's row, and show it."""
        self.position.metrics_bytes = self.folder.append_metrics(row)
        for key, value in row.items():
            if key not in ("stage", "epoch", "epochs"):
                named = value if isinstance(value, dict) else {"": value}
                for layer, number in named.items():
                    tag = f"stage{self.position.stage}/{key}/{layer}".rstrip("/")
                    self._events.add_scalar(tag, number, self.position.epoch)
        self.progress.epoch(row)

    def _end_stage(self) -> None:
        """Take the selected epoch's weights, score them on the test images, and write the stage's model.

        These scores are in the precision of the weights, as `biper evaluate` has them; those of an epoch are in that of
        training.
        """
        position = self.position
        if self.best is not None:
            load_state(self.module, self.best, "the best epoch", self.info.name)
        position.results[f"stage{position.stage}"] = {
            "epochs": position.epoch,
            "selected_epoch": position.best_epoch if self.best is not None else position.epoch,
            **self._test(mixed=False),
            "quantization_error": quantization_errors(self.module),
            "relative_error": relative_errors(self.module),
        }
        self.processes.alone(lambda: save_model(self.folder.stage_file(position.stage), self.module, self.info))

    def _finish(self) -> dict[str, Any]:
        self.processes.alone(lambda: save_model(self.folder.model_file, self.module, self.info))
        summary = {
            "recipe": self.recipe.model_dump(mode="json"),
            "selection": self.recipe.data.selection,
            **self.position.results,
            f"{self.images.test_name}_images": self.test_images,
            "sizes": model_sizes(self.module),
            **({"teacher": self.teacher.summary} if self.teacher else {}),
            "seconds": round(self._seconds() + (self.teacher.summary["seconds"] if self.teacher else 0), 3),
            "model": str(self.folder.model_file),
        }
        self.processes.alone(lambda: write_json(self.folder.summary_file, summary))
        return summary

    def _seconds(self) -> float:
        return self.position.seconds + time.monotonic() - self._started

    def _steps_done(self) -> int:
        earlier = sum(stage.epochs for stage in self.recipe.stages[: self.position.stage - 1])
        return (earlier + self.position.epoch) * len(self.batches) + self.position.step

    def _save_checkpoint(self) -> None:
        now = time.monotonic()
        self.position.seconds += now - self._started
        self._started = now

        def save() -> None:
            tensors, document = pack_state(self.position, self.module, self.optimizer, self.best)
            tensors |= self.watch.state()
            document |= {"recipe": self.recipe.model_dump(), "training_images": len(self.batches.split)}
            document["processes"] = self.processes.count
            self.folder.checkpoints.save(self.position, tensors, document)

        self.processes.alone(save)

    def _restore_model(self, path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        was, now = ModelRecipe(**document["recipe"]["model"]), self.recipe.model
        if (was, read_method(document["recipe"].get("method"))) != (now, self.recipe.method):
            raise CheckpointError(f"{path} is a checkpoint of another model: expected {now}, got {was}")
        trained, here = document.get("training_images"), len(self.batches.split)
        if trained not in (None, here):
            raise CheckpointError(
                f"{path} is of a run on {trained:,} training images, here are {here:,}: resume with the same --data-dir"
            )
        load_state(self.module, entries(tensors, "model/"), str(path), self.info.name)
        self.position = Position(**document["position"])
        self.progress.message(
            f"resuming after stage {self.position.stage} epoch {self.position.epoch} step {self.position.step} ({path})"
        )
        if (wrote := document.get("processes", 1)) != self.processes.count:
            self.progress.message(
                f"{wrote} processes wrote it, {self.processes.count} go on: with the same batches, but not to the bit"
            )

    def _interrupt(self) -> None:
        self._save_checkpoint()
        position = self.position
        whose = "the teacher's " if self.teaches else ""
        raise TrainingInterrupted(
            f"stopped after {whose}stage {position.stage} epoch {position.epoch + 1} step {position.step}, everything "
            f"is saved; to go on: biper train {self.owner.recipe_file} --out {self.owner.path} --resume, with the same "
            "--data-dir, --threads and --devices if you gave them"
        )
