"""Training steps as `biper train` takes them on a GPU, and how they are timed there.

`benchmarks/training.py --device cuda` and `benchmarks/gpu.py` use them. The images lie on the device, every batch is
cropped and mirrored there, and no step waits for the device but one in a hundred, which reads the sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from device_activity import Activity, activity_of
from device_clock import BLOCK, product_speed, step_seconds, wait_for
from plain_training import Step, plain_step
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.specs import dataset_spec
from biper.measure.evaluation import evaluate
from biper.models.saved import ModelInfo
from biper.nn import set_stage_
from biper.recipes.schema import Recipe
from biper.runs.state import Position
from biper.training.distributed.processes import join
from biper.training.make_steps import make_steps
from biper.training.optimizer import make_optimizer
from biper.training.options import RunOptions
from biper.training.progress import Progress
from biper.training.recorded import WARM_UP
from biper.training.schedules import learning_rate
from biper.training.step import TrainingStep


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
        module = ModelInfo.of_recipe(recipe).create()
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


def watch(step: Step, device: str, steps: int = 10) -> Activity:
    """What a device does during some steps, as the profiler of torch sees it; on a CPU, operators count as kernels."""
    for _ in range(WARM_UP + 2):
        step()
    wait_for(device)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as watched:
        for _ in range(steps):
            step()
        wait_for(device)
    events = [event for event in watched.events() or () if _is_kernel(event, device)]
    return activity_of(
        [(event.name, event.time_range.start / 1e6, event.time_range.end / 1e6) for event in events], steps
    )


def _is_kernel(event: FunctionEvent, device: str) -> bool:
    """Whether an event is work of a device; the profiler also marks sections of the program on its time line."""
    if event.device_type.name.lower() != device or event.is_user_annotation:
        return False
    return device != "cpu" or not event.cpu_children
