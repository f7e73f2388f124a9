"""How fast a recipe trains on this machine, and what its whole schedule would take at that speed.

    taskset -c 0 python benchmarks/training_speed.py cifar10-resnet20 cifar10-resnet18
    taskset -c 0 python benchmarks/training_speed.py imagenet-resnet18 --set data.batch_size=32 --steps 8
    python benchmarks/training_speed.py imagenet-resnet18 --device cuda --precision bfloat16

Random images of the recipe's size, in memory: each step crops, mirrors and normalizes a batch, then forward, backward
and update, as `biper train` does; decoding files (`benchmarks/decoding.py`) is not in it. The first steps of a stage
are thrown away; of the others the median is taken. With one thread on the CPU, time is the processor's, so that other
work on the machine counts less; else it is the clock's. Prints a Markdown table: images/s, and hours of all epochs with
the evaluation after each.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from biper.analysis.summary import summarize
from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.specs import dataset_spec
from biper.models import create_model
from biper.nn import set_stage_
from biper.recipe import Recipe, load_recipe
from biper.regularizers import periodic_penalty
from biper.training.evaluation import evaluate
from biper.training.optimizer import make_optimizer
from biper.training.setup import choose_device
from biper.training.processes import PRECISIONS

IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny-imagenet": (100_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""Training and test images of the data sets."""

WARM_UP = 2
"""Steps of a stage that are not counted."""


@dataclass(frozen=True)
class Speed:
    """Multiply-accumulates of one image, and images a second: training in both stages, evaluating after them."""

    multiply_accumulates: int
    training: tuple[float, float]
    evaluating: float

    def hours(self, recipe: Recipe) -> float:
        """Hours of the whole schedule of the recipe."""
        train, test = IMAGES[recipe.data.name]
        rates = zip(recipe.stages, self.training, strict=True)
        return sum(stage.epochs * (train / rate + test / self.evaluating) for stage, rate in rates) / 3600


def measure(recipe: Recipe, fabric: Fabric, now: Callable[[], float], steps: int) -> Speed:
    """Train and evaluate on random images; ``now`` tells the time in seconds."""
    spec, batch = dataset_spec(recipe.data.name), recipe.data.batch_size
    size, count = recipe.data.image_size or spec.image_size, (WARM_UP + steps) * batch
    images = torch.randint(256, (count, size, size, spec.channels), dtype=torch.uint8)
    split = Split(images, torch.randint(spec.num_classes, (count,))).to(fabric.device)
    batches = TrainingBatches(split, spec, recipe.data, seed=recipe.seed)
    module = create_model(recipe.model.name, dataset=spec.name, bits=recipe.model.bits)
    multiply_accumulates = sum(layer.multiply_accumulates for layer in summarize(module, (spec.channels, size, size)))
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rates = []
    for number, stage in enumerate(recipe.stages, 1):
        set_stage_(module, number)
        model, optimizer = fabric.setup(module, make_optimizer(module, stage))
        times = [now()]
        for inputs, labels in batches.epoch(number, 0):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(inputs), labels, label_smoothing=stage.label_smoothing)
            fabric.backward(loss + periodic_penalty(module, stage.periodic_penalty).to(loss.device))
            optimizer.step()
            times.append(now())
        rates.append(batch / median_step(times))
    some, times = split.part(torch.arange(batch)), [now()]
    for _ in range(WARM_UP + steps):
        evaluate(module, some, spec.mean, spec.std, precision_context=fabric.autocast)
        times.append(now())
    return Speed(multiply_accumulates, (rates[0], rates[1]), batch / median_step(times))


def median_step(times: list[float]) -> float:
    """Median seconds of a counted step, from the times before the first step and after each."""
    return statistics.median([later - earlier for earlier, later in itertools.pairwise(times)][WARM_UP:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="names or TOML files")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of each recipe")
    parser.add_argument("--steps", type=int, default=20, help="steps that are counted, in each stage")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    on_cpu = choose_device(options.device) == "cpu"
    fabric = Fabric(accelerator=options.device, devices=1, precision=PRECISIONS[options.precision])  # type: ignore[arg-type]

    def clock() -> float:
        if not on_cpu:
            torch.cuda.synchronize()
        return time.process_time() if on_cpu and options.threads == 1 else time.perf_counter()

    where = f"{options.threads} threads" if on_cpu else torch.cuda.get_device_name()
    kind = "processor time of one thread" if on_cpu and options.threads == 1 else f"{where}, clock time"
    print(f"torch {torch.__version__}, {kind}, {options.precision}, median of {options.steps} steps:\n")
    print("| recipe | batch | 10⁶ multiply-accumulates an image | stage 1, images/s | stage 2 | evaluating | hours |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.recipes:
        recipe = load_recipe(name, options.set)
        speed = measure(recipe, fabric, clock, options.steps)
        print(
            f"| {name} | {recipe.data.batch_size} | {speed.multiply_accumulates / 1e6:,.0f} | {speed.training[0]:,.1f} "
            f"| {speed.training[1]:,.1f} | {speed.evaluating:,.1f} | {speed.hours(recipe):,.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
