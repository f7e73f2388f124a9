"""The speed of training on this machine: biper beside the same formulas written plainly, in one interleaved run.

    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 cifar10-resnet18=64 --precision bfloat16
    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 --precision float32 --stage 2 --breakdown
    python benchmarks/training.py cifar10-resnet20=256 --threads 2 --precision bfloat16
    python benchmarks/training.py cifar10-resnet18=256 --precision bfloat16 --memory
    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 --input
    python benchmarks/training.py cifar10-resnet20=256 --precision bfloat16 --device cuda --cuda-graphs

RECIPE=BATCH names a recipe, which gives the network and the image size, and a batch size. A step is forward, loss,
penalty, backward and update on random images in memory. *Plain* is what a researcher writes first: float32, NCHW, one
autograd function for the sine and one for the sign, operators of torch for everything else, and the optimizer with its
defaults. Both take turns. The first steps are not counted, and the median of the others is printed. With one thread the
time is processor time, so that other work on the machine counts less; otherwise it is wall-clock time. The ceiling is a
matrix product of 2048 x 2048 by torch in the same precision and in the same run. Hours are those of the whole schedule
of the recipe, with an evaluation after each epoch.

On a GPU, a step of biper also makes its batch there, as `biper train` does, and plain has the precision of biper.
Blocks of 20 steps in a row take turns, timed by events of CUDA, and the ceiling is a product of 8192 x 8192, in TF32
for float32. `benchmarks/gpu.py` measures more.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, fields

import torch
from device_training import Times, times_on_device
from lightning_fabric import Fabric
from plain_training import Step, plain_step
from random_batches import inputs_of, random_images, recipe_of
from records import tables
from records.rows import InputRow, MemoryRow, ScheduleRow, ThreadsRow, TrainingRow
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from biper.data.batches import TrainingBatches
from biper.data.specs import dataset_spec
from biper.fast import availability
from biper.measure.evaluation import evaluate
from biper.measure.size import summarize
from biper.models.saved import ModelInfo
from biper.nn import set_stage_
from biper.nn.penalty import periodic_penalty
from biper.recipes.schema import Recipe
from biper.training.optimizer import make_optimizer
from biper.training.options import PRECISIONS, RunOptions
from biper.training.progress import Progress, RichProgress

IMAGES = {
    "digits": (1_437, 360),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny-imagenet": (100_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""How many training and test images the data sets have."""

WARM_UP = 2
"""How many steps at the beginning are not counted."""


def fast_step(recipe: Recipe, stage: int, fabric: Fabric, images: Tensor, labels: Tensor) -> tuple[Step, nn.Module]:
    """Make a training step as `biper train` has it, and the model that it trains."""
    settings = recipe.stages[stage - 1]
    module = ModelInfo.of_recipe(recipe).create()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_stage_(module, recipe.method.stages[stage - 1])
    model, optimizer = fabric.setup(module, make_optimizer(module, settings, recipe.method.learning_rate_factor))
    images, labels = images.contiguous(memory_format=torch.channels_last).to(fabric.device), labels.to(fabric.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
        fabric.backward(loss + periodic_penalty(module, settings.periodic_penalty).to(loss.device))
        optimizer.step()

    return step, module


@dataclass(frozen=True)
class Clock:
    """Measures time on the CPU: processor time for one thread, else wall-clock time."""

    threads: int

    def __call__(self) -> float:
        return time.process_time() if self.threads == 1 else time.perf_counter()

    def seconds(self, steps: list[Step], rounds: int) -> list[float]:
        """The median time in seconds of each step; the steps take turns."""
        times: list[list[float]] = [[] for _ in steps]
        for _ in range(WARM_UP + rounds):
            for step, mine in zip(steps, times, strict=True):
                started = self()
                step()
                mine.append(self() - started)
        return [statistics.median(mine[WARM_UP:]) for mine in times]


def ceiling(clock: Clock, dtype: torch.dtype) -> float:
    """How many multiply-accumulates a large matrix product makes in a second."""
    a = torch.randn(2048, 2048).to(dtype)
    (seconds,) = clock.seconds([lambda: a @ a], 3)
    return 2048**3 / seconds


@dataclass(frozen=True)
class Settings:
    """How steps are timed.

    Attributes:
        stage: of the training.
        steps: how many are counted.
        precision: one of `biper.training.options.PRECISIONS`.
        threads: of torch.
        device: ``cpu`` or ``cuda``.
        fast_only: leave the plain formulas out.
        cuda_graphs: on a GPU, record a step of biper and repeat it.
    """

    stage: int = 1
    steps: int = 10
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    fast_only: bool = False
    cuda_graphs: bool = False

    @property
    def fabric(self) -> Fabric:
        """What runs the model on the device and in the precision."""
        return Fabric(accelerator=self.device, devices=1, precision=PRECISIONS[self.precision])  # type: ignore[arg-type]

    @property
    def dtype(self) -> torch.dtype:
        """Of the products in the forward pass."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def kernels(self) -> str:
        """The instruction set of biper's kernels or "off"; on a GPU, how kernels are launched."""
        if self.device == "cuda":
            return "CUDA graphs" if self.cuda_graphs else "one by one"
        return "off" if availability.unavailable_reason(self.dtype) else availability.kernels_in_use()


def measure(
    network: str, settings: Settings, *, show_parts: bool = False, progress: Progress | None = None
) -> TrainingRow:
    """Measure the speed of the network that RECIPE=BATCH names.

    Args:
        network, settings: what is measured, and how.
        show_parts: print where a step's time goes.
        progress: is told why steps are not recorded as CUDA graphs, if they should be and are not.
    """
    recipe = recipe_of(network)
    if settings.device == "cuda":
        split = random_images(recipe, 16 * recipe.data.batch_size)
        batch = None if settings.fast_only else inputs_of(split.part(torch.arange(recipe.data.batch_size)))
        options = RunOptions(device="cuda", precision=settings.precision, cuda_graphs=settings.cuda_graphs)
        times, module = times_on_device(
            recipe, settings.stage, split, batch, options, progress or Progress(), rounds=settings.steps
        )
    else:
        times, module = times_on_cpu(recipe, settings, show_parts=show_parts)
    return row_of(network, recipe, settings, times, module)


def times_on_cpu(recipe: Recipe, settings: Settings, *, show_parts: bool) -> tuple[Times, nn.Module]:
    """Time a step of biper, the plain formulas and an evaluation on the CPU; also return the model."""
    torch.set_num_threads(settings.threads)
    availability.keep_freed_memory()
    fabric, clock, spec = settings.fabric, Clock(settings.threads), dataset_spec(recipe.data.name)
    split = random_images(recipe, recipe.data.batch_size)
    images, labels = inputs_of(split)
    fast, module = fast_step(recipe, settings.stage, fabric, images, labels)

    def evaluating() -> None:
        evaluate(module, split, spec.mean, spec.std, precision_context=fabric.autocast)

    steps: list[Step] = [fast, evaluating]
    if not settings.fast_only:
        steps.append(plain_step(recipe, settings.stage, images, labels))
    seconds = clock.seconds(steps, settings.steps)
    if show_parts:
        breakdown(fast)
    plain = None if settings.fast_only else seconds[2]
    return Times(seconds[0], plain, seconds[1], ceiling(clock, settings.dtype)), module


def row_of(network: str, recipe: Recipe, settings: Settings, times: Times, module: nn.Module) -> TrainingRow:
    """What the times of a network say."""
    spec, batch = dataset_spec(recipe.data.name), recipe.data.batch_size
    layers = summarize(module, spec.shape(recipe.data.image_size))
    multiply_accumulates = sum(layer.multiply_accumulates for layer in layers)
    train, test = IMAGES[recipe.data.name]
    epochs = sum(stage.epochs for stage in recipe.stages)
    return TrainingRow(
        network=network.partition("=")[0],
        batch=batch,
        stage=settings.stage,
        precision=settings.precision,
        kernels=settings.kernels,
        plain=times.plain,
        seconds=times.fast,
        ratio=None if times.plain is None else times.plain / times.fast,
        images_per_second=batch / times.fast,
        share_of_ceiling=3 * multiply_accumulates * batch / times.fast / times.product,
        evaluating=batch / times.evaluating,
        hours=epochs * (train * times.fast + test * times.evaluating) / batch / 3600,
    )


def schedule(row: TrainingRow) -> ScheduleRow:
    """What a row says of the whole schedule of its recipe."""
    assert row.images_per_second is not None
    assert row.hours is not None
    return ScheduleRow(
        network=row.network,
        batch=row.batch,
        precision=row.precision,
        images_per_second=row.images_per_second,
        hours=row.hours,
    )


def measure_threads(network: str, precision: str, steps: int) -> ThreadsRow:
    """Measure a step with one thread and with two."""
    one, two = (
        measure(network, Settings(steps=steps, precision=precision, threads=threads, fast_only=True)).seconds
        for threads in (1, 2)
    )
    name, _, batch = network.partition("=")
    return ThreadsRow(network=name, batch=int(batch), precision=precision, one=one, two=two, ratio=one / two)


def breakdown(step: Step) -> None:
    """Print the parts of a step that take the most time, as the profiler of torch measures them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print("\n| part | share |\n| --- | --- |")
    for row in rows[:8]:
        print(f"| `{row.key}` | {100 * row.self_cpu_time_total / total:.0f} % |")
    print(f"| all else | {100 * sum(row.self_cpu_time_total for row in rows[8:]) / total:.0f} % |\n", flush=True)


def memory(network: str, settings: Settings) -> MemoryRow:
    """Measure how much memory three steps add at the peak; each way of training runs in a process of its own."""
    peaks = []
    for way in ("fast", "plain"):
        command = [sys.executable, __file__, network, "--peak", way, "--precision", settings.precision]
        command += ["--threads", str(settings.threads), "--stage", str(settings.stage)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    fast, plain = peaks
    name, _, batch = network.partition("=")
    precision, ratio = settings.precision, fast / plain
    return MemoryRow(network=name, batch=int(batch), precision=precision, plain=plain, biper=fast, ratio=ratio)


def peak_megabytes(network: str, settings: Settings, way: str) -> float:
    """How much memory, in MB, one way of training adds to this process: ``"fast"`` or ``"plain"``."""
    recipe = recipe_of(network)
    images, labels = inputs_of(random_images(recipe, recipe.data.batch_size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if way == "plain":
        step = plain_step(recipe, settings.stage, images, labels)
    else:
        availability.keep_freed_memory()
        step = fast_step(recipe, settings.stage, settings.fabric, images, labels)[0]
    for _ in range(3):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def input_speed(network: str, settings: Settings) -> InputRow:
    """Measure how many images in a second are cropped, mirrored and normalized, by operators of torch and by biper."""
    torch.set_num_threads(settings.threads)
    recipe, clock, rounds = recipe_of(network), Clock(settings.threads), settings.steps
    spec = dataset_spec(recipe.data.name)
    split = random_images(recipe, (WARM_UP + rounds + 1) * recipe.data.batch_size)
    batches = TrainingBatches(split, spec, recipe.data, seed=0)
    ways = [batches.epoch(1, 0), batches.epoch(1, 0)]

    def without_kernels() -> None:
        os.environ["BIPER_KERNELS"] = "0"
        next(ways[1])
        del os.environ["BIPER_KERNELS"]

    fast, slow = clock.seconds([lambda: next(ways[0]), without_kernels], rounds)
    batch = recipe.data.batch_size
    return InputRow(network=spec.name, batch=batch, torch=batch / slow, biper=batch / fast, ratio=slow / fast)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="RECIPE=BATCH")
    parser.add_argument("--stage", type=int, default=1, choices=(1, 2))
    parser.add_argument("--steps", type=int, default=10, help="steps that are counted; on a GPU, blocks of 20 steps")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--cuda-graphs", action="store_true", help="on a GPU, record a step of biper and repeat it")
    parser.add_argument("--fast-only", action="store_true", help="leave the plain formulas out")
    parser.add_argument("--breakdown", action="store_true", help="print where a step's time goes")
    parser.add_argument("--memory", action="store_true", help="print memory instead")
    parser.add_argument("--input", action="store_true", help="print the speed of the input instead")
    parser.add_argument("--peak", choices=("fast", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and (options.breakdown or options.memory or options.input):
        parser.error("--breakdown, --memory and --input are for the CPU; benchmarks/gpu.py shows what limits a GPU")
    torch.set_num_threads(options.threads)
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    if options.peak:
        print(peak_megabytes(options.networks[0], settings, options.peak))
        return
    print(f"torch {torch.__version__}, {options.threads} threads, {options.precision}; kernels: {settings.kernels}\n")
    if options.memory:
        print(tables.memory([memory(network, settings) for network in options.networks]))
    elif options.input:
        print(tables.input_images([input_speed(network, settings) for network in options.networks]))
    else:
        told, parts = RichProgress(Console(stderr=True)), options.breakdown
        rows = [measure(network, settings, show_parts=parts, progress=told) for network in options.networks]
        print(f"{tables.training(rows)}\n\n{tables.schedules([schedule(row) for row in rows])}")


if __name__ == "__main__":
    main()
