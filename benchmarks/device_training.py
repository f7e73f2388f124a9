"""Training steps as `biper train` takes them on a GPU, and how they are timed there.

`benchmarks/training.py --device cuda` and `benchmarks/gpu.py` use them. The images lie on the device, every batch is
cropped and mirrored there, and no step waits for the device but one in a hundred, which reads the sums.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from plain_training import Step, plain_step
from torch import Tensor, nn

from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.specs import dataset_spec
from biper.measure.evaluation import evaluate
from biper.models import create_model
from biper.nn import set_stage_
from biper.recipes.schema import Recipe
from biper.runs.state import Position
from biper.training.distributed.processes import join
from biper.training.make_steps import make_steps
from biper.training.optimizer import make_optimizer
from biper.training.options import RunOptions
from biper.training.progress import Progress
from biper.training.schedules import learning_rate
from biper.training.step import TrainingStep

BLOCK = 20
"""Steps of one way that are timed together. The device is waited for before and after them, not between them."""


@contextmanager
def training_step(
    recipe: Recipe, stage: int, split: Split, options: RunOptions, progress: Progress | None = None
) -> Iterator[tuple[Step, nn.Module]]:
    """A training step as `biper train` takes it, with its batch; and the model that it trains.

    Args:
        recipe: gives the network, the batch size, the augmentation and the stage.
        stage: 1 or 2.
        split: images to make the batches of; an epoch begins again when they are used up.
        options: device, precision, and whether to record CUDA graphs.
        progress: is told why steps are not recorded, if they are not.
    """
    settings, spec = recipe.stages[stage - 1], dataset_spec(recipe.data.name)
    with join(options.device, options.precision, options.step_timeout) as processes:
        module = create_model(recipe.model.name, dataset=recipe.data.name)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        set_stage_(module, recipe.method.stages[stage - 1])
        fabric = processes.fabric
        model = processes.set_up(module, spec.shape(recipe.data.image_size))
        made = make_optimizer(module, settings, recipe.method.learning_rate_factor)
        optimizer = fabric.setup_optimizers(made)
        gradients = TrainingStep(model, module, settings, recipe.data.accumulate, processes, None, scales_loss=False)
        steps = make_steps(gradients, optimizer, options, progress or Progress())  # type: ignore[arg-type]
        batches = TrainingBatches(split.to(fabric.device), spec, recipe.data, seed=recipe.seed)
        position = Position(stage=stage)
        endless = itertools.chain.from_iterable(batches.epoch(stage, epoch) for epoch in itertools.count())

        def step() -> None:
            images, labels = next(endless)
            steps.set_learning_rate(learning_rate(settings, position.step, len(batches)))
            steps.take(position, images, labels)

        yield step, model.train()


class Mark(Protocol):
    """A moment in the work of a device, as `torch.cuda.Event` notes it."""

    def record(self) -> None:
        """Note the moment at which the device reaches this point."""

    def elapsed_time(self, later: Mark) -> float:
        """Milliseconds from this moment to another."""


class _CpuMark:
    """A moment on the CPU, which has done everything before it already."""

    def record(self) -> None:
        self.moment = time.perf_counter()

    def elapsed_time(self, later: _CpuMark) -> float:
        return 1e3 * (later.moment - self.moment)


def _mark(device: str) -> Mark:
    mark: Mark = torch.cuda.Event(enable_timing=True) if device == "cuda" else _CpuMark()  # type: ignore[assignment,no-untyped-call]
    return mark


def wait_for(device: str) -> None:
    """Wait until a device has done everything that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def step_seconds(steps: Sequence[Step], device: str, rounds: int, block: int = BLOCK) -> list[float]:
    """The median time in seconds of each step, over blocks of steps in a row; the blocks of different steps take turns.

    Args:
        steps: what to time.
        device: ``cuda``, which notes the times itself (CUDA events), or ``cpu``.
        rounds: how many blocks of each step count; a block before them does not.
        block: how many times a step is taken in a block.
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for step, mine in zip(steps, times, strict=True):
            wait_for(device)
            before, after = _mark(device), _mark(device)
            before.record()
            for _ in range(block):
                step()
            after.record()
            wait_for(device)
            mine.append(before.elapsed_time(after) / 1e3 / block)
    return [statistics.median(mine[1:]) for mine in times]


def product_speed(device: str, dtype: torch.dtype, size: int, rounds: int = 5) -> float:
    """How many multiply-accumulates a matrix product of ``size`` x ``size`` makes in a second; float32 may use TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as convolutions of torch do on GPUs by default
    try:
        a = torch.randn(size, size, device=device).to(dtype)
        (seconds,) = step_seconds([lambda: a @ a], device, rounds, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    return float(size**3 / seconds)


@dataclass(frozen=True)
class Times:
    """Medians in seconds, and the speed of a large matrix product in multiply-accumulates a second.

    Attributes:
        fast: a step of biper.
        plain: a step of the plain formulas; None if they were left out.
        evaluating: an evaluation of one batch.
        product: the speed of the product.
    """

    fast: float
    plain: float | None
    evaluating: float
    product: float


def times_on_device(
    recipe: Recipe,
    stage: int,
    split: Split,
    plain_batch: tuple[Tensor, Tensor] | None,
    options: RunOptions,
    progress: Progress,
    *,
    rounds: int,
    block: int = BLOCK,
    product_size: int = 8192,
) -> tuple[Times, nn.Module]:
    """Time a step of biper, the plain formulas and an evaluation.

    Args:
        recipe, stage, split, options, progress: see `training_step`.
        plain_batch: the normalized images and the labels of the plain formulas; None leaves the formulas out.
        rounds, block: see `step_seconds`.
        product_size: of the matrix product.

    Returns:
        The times, and the model that was trained.
    """
    device, spec = options.device, dataset_spec(recipe.data.name)
    dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    context = partial(torch.autocast, device, torch.bfloat16) if dtype is torch.bfloat16 else nullcontext
    with training_step(recipe, stage, split, options, progress) as (step, module):
        steps = [step]
        if plain_batch is not None:
            images, labels = (tensor.to(device) for tensor in plain_batch)
            steps.append(plain_step(recipe, stage, images, labels, context))
        seconds = step_seconds(steps, device, rounds, block)
        images_there = split.part(torch.arange(recipe.data.batch_size)).to(device)

        def evaluating() -> None:
            evaluate(module, images_there, spec.mean, spec.std, precision_context=context)

        (evaluation,) = step_seconds([evaluating], device, rounds, max(1, block // 4))
    plain = seconds[1] if plain_batch is not None else None
    return Times(seconds[0], plain, evaluation, product_speed(device, dtype, product_size)), module
