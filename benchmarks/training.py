"""The speed of training on this machine: biper beside the same formulas written plainly, in one interleaved run.

    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 cifar10-resnet18=64 --precision bfloat16
    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 --precision float32 --stage 2 --breakdown
    python benchmarks/training.py cifar10-resnet20=256 --threads 2 --precision bfloat16
    python benchmarks/training.py cifar10-resnet18=256 --precision bfloat16 --memory
    taskset -c 0 python benchmarks/training.py cifar10-resnet20=256 --input

RECIPE=BATCH names a recipe, which gives the network and the image size, and a batch size. A step is forward, loss,
penalty, backward and update on random images in memory. *Plain* is what a researcher writes first: float32, NCHW, one
autograd function for the sine and one for the sign, operators of torch for everything else, and the optimizer with its
defaults. Both take turns. The first steps are not counted, and the median of the others is printed. With one thread the
time is processor time, so that other work on the machine counts less; otherwise it is wall-clock time. The ceiling is a
matrix product of 2048 x 2048 by torch in the same precision and in the same run. Hours are those of the whole schedule
of the recipe, with an evaluation after each epoch.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.specs import dataset_spec
from biper.fast import availability
from biper.measure.evaluation import evaluate
from biper.measure.size import summarize
from biper.models import create_model
from biper.nn import BinaryConv2d, set_stage_
from biper.nn.penalty import periodic_penalty
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.training.optimizer import make_optimizer
from biper.training.options import PRECISIONS

IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny-imagenet": (100_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""How many training and test images the data sets have."""

WARM_UP = 2
"""How many steps at the beginning are not counted."""

Step = Callable[[], object]


class PlainSine(torch.autograd.Function):
    """The function sin(ω w) or its sign, with the gradient ω cos(ω w)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, frequency: float, stage: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.frequency = frequency
        wave = torch.sin(frequency * weight)
        return wave if stage == 1 else torch.where(wave >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grad * ctx.frequency * torch.cos(ctx.frequency * weight), None, None


class PlainSign(torch.autograd.Function):
    """The sign, with the gradient max(0, 2 - 2|x|)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.clamp(2 - 2 * x.abs(), min=0)


class PlainConvolution(nn.Module):
    """A binary convolution, written with the formulas."""

    def __init__(self, layer: BinaryConv2d, frequency: float, stage: int) -> None:
        super().__init__()
        self.weight, self.scale = layer.weight, layer.scale
        self.stride, self.padding = layer.stride, layer.padding
        self.frequency, self.stage = frequency, stage

    def forward(self, x: Tensor) -> Tensor:
        x = x / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)
        weight = PlainSine.apply(self.weight, self.frequency, self.stage)
        return F.conv2d(PlainSign.apply(x), weight, None, self.stride, self.padding) * self.scale.view(1, -1, 1, 1)


def plain_model(recipe: Recipe, stage: int) -> nn.Module:
    """The network of a recipe with plain binary convolutions."""
    model = create_model(recipe.model.name, dataset=recipe.data.name)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BinaryConv2d):
                setattr(module, name, PlainConvolution(child, recipe.model.frequency, stage))
    return model


def plain_step(recipe: Recipe, stage: int, images: Tensor, labels: Tensor) -> Step:
    """Make a training step that is written with the formulas."""
    model, settings = plain_model(recipe, stage), recipe.stages[stage - 1]
    latent = [module.weight for module in model.modules() if isinstance(module, PlainConvolution)]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )

    def step() -> None:
        os.environ["BIPER_KERNELS"] = "0"
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        for weight in latent:
            loss = loss + settings.periodic_penalty * torch.mean(torch.sin(recipe.model.frequency * weight) ** 2)
        loss.backward()
        optimizer.step()
        del os.environ["BIPER_KERNELS"]

    return step


def fast_step(recipe: Recipe, stage: int, fabric: Fabric, images: Tensor, labels: Tensor) -> tuple[Step, nn.Module]:
    """Make a training step as `biper train` has it, and the model that it trains."""
    settings = recipe.stages[stage - 1]
    module = create_model(recipe.model.name, dataset=recipe.data.name)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_stage_(module, stage)
    model, optimizer = fabric.setup(module, make_optimizer(module, settings))
    images, labels = images.contiguous(memory_format=torch.channels_last).to(fabric.device), labels.to(fabric.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), labels, label_smoothing=settings.label_smoothing)
        fabric.backward(loss + periodic_penalty(module, settings.periodic_penalty).to(loss.device))
        optimizer.step()

    return step, module


@dataclass(frozen=True)
class Clock:
    """Measures time: processor time for one thread on the CPU, else wall-clock time. It waits for the GPU."""

    threads: int
    device: str

    def __call__(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.threads == 1 and self.device == "cpu" else time.perf_counter()

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
    a = torch.randn(2048, 2048).to(clock.device, dtype)
    (seconds,) = clock.seconds([lambda: a @ a], 3)
    return 2048**3 / seconds


def random_images(recipe: Recipe, count: int) -> Split:
    """Random images of the size that a recipe has."""
    spec = dataset_spec(recipe.data.name)
    size = recipe.data.image_size or spec.image_size
    images = torch.randint(256, (count, size, size, spec.channels), dtype=torch.uint8)
    return Split(images, torch.randint(spec.num_classes, (count,)))


def inputs_of(split: Split) -> tuple[Tensor, Tensor]:
    """The images as a model takes them, from -2 to 2, and their labels."""
    images = split.images.float().div_(64).sub_(2).permute(0, 3, 1, 2)
    return images.contiguous(), split.labels


def speed(recipe: Recipe, fabric: Fabric, clock: Clock, options: argparse.Namespace) -> None:
    """Measure the speed of one network, and print it as a row of the table."""
    spec, batch = dataset_spec(recipe.data.name), recipe.data.batch_size
    split = random_images(recipe, batch)
    images, labels = inputs_of(split)
    fast, module = fast_step(recipe, options.stage, fabric, images, labels)

    def evaluating() -> None:
        evaluate(module, split.to(fabric.device), spec.mean, spec.std, precision_context=fabric.autocast)

    steps: list[Step] = [fast, evaluating]
    if not options.fast_only:
        steps.append(plain_step(recipe, options.stage, images, labels))
    seconds = clock.seconds(steps, options.steps)
    layers = summarize(module, (spec.channels, *images.shape[2:]))
    multiply_accumulates = sum(layer.multiply_accumulates for layer in layers)
    peak = ceiling(clock, torch.bfloat16 if options.precision == "bfloat16" else torch.float32)
    share = 3 * multiply_accumulates * batch / seconds[0] / peak
    train, test = IMAGES[recipe.data.name]
    epochs = sum(stage.epochs for stage in recipe.stages)
    hours = epochs * (train * seconds[0] + test * seconds[1]) / batch / 3600
    plain = ["-", "-"] if options.fast_only else [f"{seconds[2] * 1e3:,.0f}", f"{seconds[2] / seconds[0]:.2f}"]
    rates = f"{batch / seconds[0]:,.0f}", f"{100 * share:.0f} %", f"{batch / seconds[1]:,.0f}", f"{hours:,.1f}"
    print_row(recipe.model.name, options.stage, batch, *plain, f"{seconds[0] * 1e3:,.0f}", *rates)
    if options.breakdown:
        breakdown(fast)


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


def memory(recipe: Recipe, options: argparse.Namespace) -> None:
    """Print how much memory three steps add at the peak; each way of training runs in a process of its own."""
    peaks = []
    for way in ("fast", "plain"):
        command = [sys.executable, __file__, f"{options.recipe}={recipe.data.batch_size}", "--peak", way]
        command += ["--precision", options.precision, "--threads", str(options.threads), "--stage", str(options.stage)]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    fast, plain = peaks
    sizes = f"{plain:,.0f}", f"{fast:,.0f}", f"{fast / plain:.2f}"
    print_row(recipe.model.name, recipe.data.batch_size, *sizes)


def print_peak(recipe: Recipe, fabric: Fabric, options: argparse.Namespace) -> None:
    """Print how much memory, in MB, one way of training adds to this process."""
    images, labels = inputs_of(random_images(recipe, recipe.data.batch_size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if options.peak == "plain":
        step = plain_step(recipe, options.stage, images, labels)
    else:
        availability.keep_freed_memory()
        step = fast_step(recipe, options.stage, fabric, images, labels)[0]
    for _ in range(3):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def input_speed(recipe: Recipe, clock: Clock, rounds: int) -> None:
    """Print how many images in a second are cropped, mirrored and normalized, by operators of torch and by biper."""
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
    print_row(recipe.data.name, batch, f"{batch / slow:,.0f}", f"{batch / fast:,.0f}")


def print_row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


COLUMNS = "network, stage, batch, plain (ms), ratio, biper (ms), images/s, of ceiling, evaluating (images/s), hours"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="RECIPE=BATCH")
    parser.add_argument("--stage", type=int, default=1, choices=(1, 2))
    parser.add_argument("--steps", type=int, default=10, help="steps that are counted")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--fast-only", action="store_true", help="leave the plain formulas out")
    parser.add_argument("--breakdown", action="store_true", help="print where a step's time goes")
    parser.add_argument("--memory", action="store_true", help="print memory instead")
    parser.add_argument("--input", action="store_true", help="print the speed of the input instead")
    parser.add_argument("--peak", choices=("fast", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fabric = Fabric(accelerator=options.device, devices=1, precision=PRECISIONS[options.precision])  # type: ignore[arg-type]
    clock = Clock(options.threads, options.device)
    recipes = []
    for network in options.networks:
        name, _, batch = network.partition("=")
        recipes.append((name, load_recipe(name, [f"data.batch_size={batch}"])))
    if options.peak:
        print_peak(recipes[0][1], fabric, options)
        return
    why = availability.unavailable_reason(torch.bfloat16 if options.precision == "bfloat16" else torch.float32)
    kernels = why or availability.kernels_in_use()
    print(f"torch {torch.__version__}, {options.threads} threads, {options.precision}; kernels: {kernels}\n")
    if options.memory:
        print("| network | batch | plain, MB | biper, MB | ratio |\n| --- | --- | --- | --- | --- |")
    elif options.input:
        print("| images | batch | torch's operators, images/s | biper, images/s |\n| --- | --- | --- | --- |")
    else:
        availability.keep_freed_memory()
        columns = COLUMNS.split(", ")
        print_row(*columns)
        print_row(*["---"] * len(columns))
    for name, recipe in recipes:
        options.recipe = name
        if options.memory:
            memory(recipe, options)
        elif options.input:
            input_speed(recipe, clock, options.steps)
        else:
            speed(recipe, fabric, clock, options)


if __name__ == "__main__":
    main()
