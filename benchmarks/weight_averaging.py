"""Compare averages of the weights over the last stage with the weights at its end.

    python benchmarks/weight_averaging.py cifar10-resnet20-short --data-dir DATA --scale-epochs 0.2 --average 0.99 0.998

This trains the recipe as `biper train` does (the same start, batches and schedule, in bfloat16), but writes no run
folder, checkpoints or logs. An average is an exponential average of the latent weights over every step of the last
stage. Before an average is scored, its batch norms measure their statistics again on ``--refresh`` batches. The scores
are those on the test images after the last epoch, in float32.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from biper.data import load_dataset
from biper.data.batches import TrainingBatches
from biper.fast.availability import keep_freed_memory
from biper.measure.evaluation import evaluate
from biper.models import create_model
from biper.nn import set_progress_, set_stage_
from biper.nn.penalty import periodic_penalty
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe, StageRecipe
from biper.training.optimizer import make_optimizer
from biper.training.schedules import learning_rate


def main() -> None:
    """Train once, and print one row for the final weights and one for each average of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--scale-epochs", type=float, default=1.0)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--average", type=float, nargs="+", default=[0.99, 0.998], help="decay of an average in one step"
    )
    parser.add_argument("--refresh", type=int, default=60, help="batches for the batch norms of an average")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    recipe = load_recipe(arguments.recipe, arguments.set).scaled(arguments.scale_epochs)
    run = PlainTraining(recipe, arguments.data_dir, arguments.average)
    began = time.monotonic()
    run.train()
    minutes = (time.monotonic() - began) / 60
    print(f"{recipe.stage1.epochs} + {recipe.stage2.epochs} epochs, {minutes:.1f} min, threads: {arguments.threads}")
    print("| weights | test % |\n| --- | --- |")
    print(f"| of the last step | {run.accuracy(run.model):.2%} |", flush=True)
    for decay, average in run.averages.items():
        run.refresh(average, arguments.refresh)
        print(f"| averaged, {decay:g} a step | {run.accuracy(average):.2%} |", flush=True)


class PlainTraining:
    """The training of a recipe without a run folder."""

    def __init__(self, recipe: Recipe, data_dir: Path | None, decays: list[float]) -> None:
        self.recipe, self.decays = recipe, decays
        dataset = load_dataset(recipe.data.name, data_dir)
        self.spec, self.test = dataset.spec, dataset.split("test")
        self.batches = TrainingBatches(dataset.split("train"), dataset.spec, recipe.data, seed=recipe.seed)
        torch.manual_seed(recipe.seed)
        self.model: nn.Module = create_model(
            recipe.model.name,
            dataset=recipe.data.name,
            bits=recipe.model.bits,
            frequency=recipe.model.frequency,
            method=recipe.method,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averages: dict[float, AveragedModel] = {}

    def train(self) -> None:
        """Train both stages, and average the weights over the last one."""
        for number, stage in enumerate(self.recipe.stages, 1):
            set_stage_(self.model, self.recipe.method.stages[number - 1])
            optimizer = make_optimizer(self.model, stage, self.recipe.method.learning_rate_factor)
            if number == len(self.recipe.stages):
                self.averages = {
                    decay: AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay)) for decay in self.decays
                }
            for epoch in range(stage.epochs):
                self._train_epoch(number, epoch, stage, optimizer)

    def _train_epoch(self, number: int, epoch: int, stage: StageRecipe, optimizer: torch.optim.Optimizer) -> None:
        self.model.train()
        loss_sum, began, steps = 0.0, time.monotonic(), len(self.batches)
        for step, (images, labels) in enumerate(self.batches.epoch(number, epoch)):
            done = epoch * steps + step
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, done, steps) * group.get("learning_rate_factor", 1.0)
            set_progress_(self.model, (done + 1) / (stage.epochs * steps))
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.model(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=stage.label_smoothing)
            (loss + periodic_penalty(self.model, stage.periodic_penalty)).backward()
            optimizer.step()
            for average in self.averages.values():
                average.update_parameters(self.model)
            loss_sum += loss.item() / steps
        seconds = time.monotonic() - began
        print(f"stage {number} epoch {epoch + 1}/{stage.epochs}  loss {loss_sum:.4f}  {seconds:.0f} s", flush=True)

    def refresh(self, average: AveragedModel, batches: int) -> None:
        """Measure the statistics of the batch norms of an average again."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            update_bn(itertools.islice(self.batches.epoch(len(self.recipe.stages), 0), batches), average.train())

    def accuracy(self, model: nn.Module) -> float:
        """The accuracy of a model on the test images, 0 to 1."""
        return evaluate(model, self.test, self.spec.mean, self.spec.std).accuracy


if __name__ == "__main__":
    main()
