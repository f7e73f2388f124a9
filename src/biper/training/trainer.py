"""The one training loop: both stages in a row, evaluated each epoch, resumable at every step.

Read `Trainer.run` first; everything else is a detail of it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from biper.analysis.quantization_error import quantization_errors
from biper.analysis.summary import model_sizes
from biper.data import load_dataset
from biper.data.batches import TrainingBatches
from biper.data.dataset import Images
from biper.data.unreadable import UnreadableImages
from biper.data.workers import one_line_worker_errors
from biper.errors import CheckpointError, NonFiniteLossError, TrainingInterrupted
from biper.models.saved import ModelInfo, load_state, save_model
from biper.nn import set_stage_
from biper.recipe import Recipe, StageRecipe
from biper.regularizers import periodic_penalty
from biper.training.environment import describe_environment
from biper.training.evaluation import Scores, evaluate
from biper.training.interruption import StopRequest
from biper.training.optimizer import make_optimizer
from biper.training.progress import Progress
from biper.training.run_folder import RunFolder, write_json
from biper.training.schedules import learning_rate
from biper.training.state import Position, entries, pack_state, restore_optimizer, restore_random

PRECISIONS = {"float32": "32-true", "float64": "64-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""Names of precisions, and what lightning-fabric calls them."""


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
) -> dict[str, Any]:
    """Train a recipe through both stages into a run folder.

    Args:
        recipe: what to train; see `biper.load_recipe`.
        out: the run folder, see `RunFolder` for what is in it; made if it is not there.
        data_dir: where the data is; see `biper.load_dataset`.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        precision: ``"float32"``, ``"float64"``, or the mixed ``"bfloat16"`` and ``"float16"``.
        workers: processes that decode images, see `biper.load_dataset`; changes no result.
        resume: go on from the newest valid checkpoint in ``out``, or start if there is none.
        progress: what shows progress; default nothing.

    Returns:
        The content of ``summary.json``.

    Raises:
        RecipeError: ``out`` holds a run and ``resume`` is false, or a run of another recipe.
        DataError: the data is missing or corrupt, or too many images cannot be read.
        CheckpointError: a checkpoint could not be written, or is not of this recipe.
        NonFiniteLossError: the loss or a gradient became NaN or infinite.
        TrainingInterrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    folder = RunFolder(out)
    folder.create(recipe, resume=resume)
    if (summary := folder.read_summary()) is not None:
        return summary
    fabric = Fabric(accelerator=device, devices=1, precision=PRECISIONS[precision])  # type: ignore[arg-type]
    fabric.seed_everything(recipe.seed, verbose=False)
    write_json(
        folder.environment_file,
        describe_environment(seed=recipe.seed, device=str(fabric.device), precision=precision),
    )
    trainer = Trainer(
        recipe, folder, fabric, data_dir, progress or Progress(), workers=workers, scales_loss=precision == "float16"
    )
    return trainer.run()


class Trainer:
    """A run in progress: a recipe, its data, model and optimizer, and how far they are."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        fabric: Fabric,
        data_dir: str | Path | None,
        progress: Progress,
        *,
        workers: int | None,
        scales_loss: bool,
    ) -> None:
        self.recipe, self.folder, self.fabric, self.progress = recipe, folder, fabric, progress
        self.scales_loss = scales_loss
        unreadable = UnreadableImages(recipe.data.max_unreadable, folder.unreadable_file, self.progress.message)
        dataset = load_dataset(
            recipe.data.name, data_dir, image_size=recipe.data.image_size, workers=workers, unreadable=unreadable
        )
        self.spec = dataset.spec
        train_split, held_out = dataset.split("train"), None
        if recipe.data.selection == "held-out":
            train_split, held_out = dataset.hold_out()
        self.held_out = held_out.to(fabric.device) if held_out else None
        self.test = dataset.split(recipe.data.evaluate_on).to(fabric.device)
        self.test_name = "fit" if recipe.data.evaluate_on == "train" else "test"
        self.batches = TrainingBatches(train_split.to(fabric.device), self.spec, recipe.data, seed=recipe.seed)
        self.info = ModelInfo(
            name=recipe.model.name,
            dataset=recipe.data.name,
            num_classes=len(dataset.classes),
            bits=recipe.model.bits,
            frequency=recipe.model.frequency,
            mean=self.spec.mean,
            std=self.spec.std,
            classes=dataset.classes,
            image_size=recipe.data.image_size or self.spec.image_size,
        )
        self.module = self.info.create().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.position = Position()
        self.best: dict[str, Tensor] | None = None
        self._started = time.monotonic()
        self._stop = StopRequest()

    def run(self) -> dict[str, Any]:
        """Train both stages from wherever the newest checkpoint stands; see `train`."""
        found = self.folder.checkpoints.load_newest()
        if found is not None:
            self._restore_model(*found)
        self.folder.truncate_metrics(self.position.metrics_bytes)
        steps = [stage.epochs * len(self.batches) for stage in self.recipe.stages]
        self.progress.begin(sum(steps), self._steps_done())
        try:
            with self._stop, one_line_worker_errors(), SummaryWriter(str(self.folder.tensorboard)) as self._events:
                for number in range(self.position.stage, 3):
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
        set_stage_(self.module, self.position.stage)
        self.best = None
        self.model, self.optimizer = self.fabric.setup(self.module, make_optimizer(self.module, stage))
        if found is not None:
            _, tensors, document = found
            restore_optimizer(self.optimizer, tensors, document)
            restore_random(tensors, document)
            self.best = entries(tensors, "best/") or None
        while self.position.epoch < stage.epochs:
            self._run_epoch(stage)
        self._end_stage()

    def _run_epoch(self, stage: StageRecipe) -> None:
        position = self.position
        label = f"stage {position.stage} epoch {position.epoch + 1}/{stage.epochs}"
        started, first_images = time.monotonic(), position.images
        self.model.train()
        for images, labels in self.batches.epoch(position.stage, position.epoch, position.step):
            self._train_step(stage, images, labels)
            self.progress.step(
                label, len(labels), position.loss_sum / position.images, position.correct / position.images
            )
            if self._stop.requested:
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
        position.step = position.images = position.correct = 0
        position.loss_sum = 0.0
        position.metrics_bytes = self.folder.append_metrics(row)
        for key, value in row.items():
            if key not in ("stage", "epoch", "epochs"):
                self._events.add_scalar(f"stage{position.stage}/{key}", value, position.epoch)
        self.progress.epoch(row)
        self._save_checkpoint()

    def _train_step(self, stage: StageRecipe, images: Tensor, labels: Tensor) -> None:
        """One step of gradient descent; the update is not made if the loss or a gradient is not finite."""
        position = self.position
        done = position.epoch * len(self.batches) + position.step
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, done, len(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(images.to(next(self.module.parameters()).dtype))
        loss = F.cross_entropy(logits, labels, label_smoothing=stage.label_smoothing)
        objective = loss + periodic_penalty(self.module, stage.periodic_penalty).to(loss.device)
        self._require_finite(objective, "loss")
        self.fabric.backward(objective)
        if not self.scales_loss:  # a loss scaler skips such steps by itself
            gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
            self._require_finite(torch.nn.utils.get_total_norm(gradients), "gradient")
        self.optimizer.step()
        position.step += 1
        position.images += len(labels)
        position.loss_sum += loss.item() * len(labels)
        position.correct += int((logits.argmax(1) == labels).sum())

    def _require_finite(self, value: Tensor, what: str) -> None:
        if not math.isfinite(value.item()):
            position = self.position
            newest = self.folder.checkpoints.newest_first()
            kept = f"the last good checkpoint is {newest[0]}" if newest else "no checkpoint was written yet"
            raise NonFiniteLossError(
                f"the {what} became {value.item()} at stage {position.stage} epoch {position.epoch + 1} step "
                f"{position.step + 1}, before its update; {kept}. A lower stage{position.stage}.learning_rate may help"
            )

    def _evaluate_epoch(self) -> dict[str, float]:
        """Scores after an epoch: on the held-out images if the recipe has them, else on the test images."""
        if self.held_out is None:
            return self._test()
        scores = self._scores(self.held_out)
        if scores.accuracy > self.position.best_accuracy:
            self.position.best_accuracy, self.position.best_epoch = scores.accuracy, self.position.epoch
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        return {"held_out_loss": scores.loss, "held_out_accuracy": scores.accuracy}

    def _test(self) -> dict[str, float]:
        """Scores on the test images; on the training images, and called fit, if the recipe says so."""
        scores = self._scores(self.test)
        self.test_images = scores.images
        return {f"{self.test_name}_loss": scores.loss, f"{self.test_name}_accuracy": scores.accuracy}

    def _scores(self, split: Images) -> Scores:
        return evaluate(self.module, split, self.spec.mean, self.spec.std, precision_context=self.fabric.autocast)

    def _end_stage(self) -> None:
        """Take the selected epoch's weights, score them on the test images, and write the stage's model."""
        position = self.position
        if self.best is not None:
            load_state(self.module, self.best, "the best epoch", self.info.name)
        position.results[f"stage{position.stage}"] = {
            "epochs": position.epoch,
            "selected_epoch": position.best_epoch if self.best is not None else position.epoch,
            **self._test(),
            "quantization_error": quantization_errors(self.module),
        }
        save_model(self.folder.stage_file(position.stage), self.module, self.info)

    def _finish(self) -> dict[str, Any]:
        save_model(self.folder.model_file, self.module, self.info)
        summary = {
            "recipe": self.recipe.model_dump(mode="json"),
            "selection": self.recipe.data.selection,
            **self.position.results,
            f"{self.test_name}_images": self.test_images,
            "sizes": model_sizes(self.module),
            "seconds": round(self._seconds(), 3),
            "model": str(self.folder.model_file),
        }
        write_json(self.folder.summary_file, summary)
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
        tensors, document = pack_state(self.position, self.module, self.optimizer, self.best)
        document |= {"recipe": self.recipe.model_dump(), "training_images": len(self.batches.split)}
        self.folder.checkpoints.save(self.position, tensors, document)

    def _restore_model(self, path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        was, now = document.get("recipe", {}).get("model"), self.recipe.model.model_dump()
        if was != now:
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

    def _interrupt(self) -> None:
        self._save_checkpoint()
        position = self.position
        raise TrainingInterrupted(
            f"stopped after stage {position.stage} epoch {position.epoch + 1} step {position.step}, everything is "
            f"saved; to go on: biper train {self.folder.recipe_file} --out {self.folder.path} --resume, with the same "
            "--data-dir and --threads if you gave them"
        )
