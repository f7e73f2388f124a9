"""The cost of measuring the layers of a network while it trains: the time of `LayerMonitor` as a share of a step.

This trains the network of a recipe on random images, with the batch size of the recipe, and calls the monitor as the
trainer does: after every step and after every epoch. Both times are of the same steps. They are processor times of this
process, so that other work on the machine counts less.

    python benchmarks/watching.py digits cifar10-resnet20 --epochs 2 --steps 40

Epochs of real data have more steps than ``--steps``, so that the cost of what happens once in an epoch is overstated.
"""

from __future__ import annotations

import argparse
import time

import torch
from records import tables
from records.rows import WatchingRow
from torch.nn import functional as F

from biper.data.specs import dataset_spec
from biper.measure.monitor import LayerMonitor
from biper.models import create_model
from biper.nn.penalty import periodic_penalty
from biper.recipes.load import load_recipe
from biper.training.optimizer import make_optimizer


def main() -> None:
    """Measure, and print one row for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="steps of an epoch")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(tables.watching([watched(name, arguments.epochs, arguments.steps) for name in arguments.recipes]))


def watched(name: str, epochs: int, steps: int) -> WatchingRow:
    """The times of `measure` for one step each, and what measuring takes of it."""
    training, in_steps, in_epochs = measure(name, epochs, steps)
    count, measuring = epochs * steps, in_steps + in_epochs
    return WatchingRow(
        recipe=name,
        steps=count,
        step=training / count,
        measuring=measuring / count,
        share=measuring / training,
        once_an_epoch=in_epochs / measuring,
    )


def measure(name: str, epochs: int, steps: int) -> tuple[float, float, float]:
    """The processor time, in seconds, of training steps, of `LayerMonitor.end_step` and of `LayerMonitor.end_epoch`."""
    recipe = load_recipe(name)
    spec, stage = dataset_spec(recipe.data.name), recipe.stage1
    model = create_model(
        recipe.model.name, dataset=spec.name, bits=recipe.model.bits, frequency=recipe.model.frequency
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = recipe.data.image_size or spec.image_size
    images = torch.randn(recipe.data.batch_size, spec.channels, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(spec.num_classes, (len(images),))
    optimizer = make_optimizer(model, stage)
    monitor = LayerMonitor(model)
    training = in_steps = in_epochs = 0.0
    for epoch in range(-1, epochs):
        if epoch == 0:  # before that, everything is warming up
            training = in_steps = in_epochs = 0.0
        for step in range(1, steps + 1):
            began = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(images), labels) + periodic_penalty(model, stage.periodic_penalty)
            loss.backward()
            torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
            optimizer.step()
            between = time.process_time()
            monitor.end_step(step)
            training, in_steps = training + between - began, in_steps + time.process_time() - between
        began = time.process_time()
        monitor.end_epoch()
        in_epochs += time.process_time() - began
    return training, in_steps, in_epochs


if __name__ == "__main__":
    main()
