"""What `benchmarks/gpu.py` measures on a device, each part in a process of its own; run that script, not this one.

    python benchmarks/gpu_parts.py checks RESULTS.jsonl --device cuda

A row of results is written to the end of the file as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from device_training import times_on_device, training_step, watch
from random_batches import inputs_of, random_images, recipe_of
from safetensors.torch import load_file
from training import Settings, row_of

from biper.data.dataset import Dataset, Split
from biper.data.specs import SPECS
from biper.recipes.load import load_recipe
from biper.runs.folder import RunFolder
from biper.training.options import RunOptions
from biper.training.parts import RunParts
from biper.training.progress import Progress
from biper.training.run import train_parts

Rows = Iterator[dict[str, Any]]

TOLERANCES = {"float64": 1e-6, "float32": 0.1, "bfloat16": 0.2}
"""The largest relative difference from the CPU. In float64 it is that of the weights, because no sign differs there. In
the others it is that of the training loss of the first epoch from the one in float32: sums that round differently flip
signs of activations near zero, and on a CPU the loss in bfloat16 differs from the one in float32 by 3 to 8 % here."""


class Messages(Progress):
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def message(self, text: str) -> None:
        self.all.append(text)

    @property
    def why_not_recorded(self) -> str | None:
        """Why steps were not recorded as CUDA graphs, if somebody said so."""
        return next((text for text in self.all if "recorded as CUDA graphs" in text), None)


def machine(device: str, quick: bool) -> Rows:  # noqa: ARG001
    """The machine and its software."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA GPU here: try everything with --device cpu --quick")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    software = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}
    yield {"device": device, "name": name, "cores": os.cpu_count(), **software}


def checks(device: str, quick: bool) -> Rows:
    """Whether both stages of ResNet-20 train on the device as they do on the CPU."""
    steps, batch = (5, 4) if quick else (8, 32)
    fixed = ["stage1.epochs=1", "stage2.epochs=1", "stage1.warmup_epochs=0", "stage2.warmup_epochs=0"]
    recipe = load_recipe("cifar10-resnet20", [f"data.batch_size={batch}", *fixed])
    draws = torch.Generator().manual_seed(0)

    def images(count: int) -> Split:
        pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8, generator=draws)
        return Split(pixels, torch.randint(10, (count,), generator=draws))

    data = Dataset(SPECS["cifar10"], tuple("0123456789"), train=images(steps * batch), test=images(2 * batch))

    def trained(folder: str, told: Progress, **options: Any) -> RunFolder:
        train_parts(recipe, folder, RunParts(dataset=data), RunOptions(**options), told)
        return RunFolder(folder)

    with tempfile.TemporaryDirectory() as there:
        wanted = {
            precision: trained(f"{there}/{precision}", Progress(), device="cpu", precision=precision)
            for precision in ("float64", "float32")
        }
        for precision, tolerance in TOLERANCES.items():
            for graphs in (False, True):
                told = Messages()
                options = {"device": device, "precision": precision, "cuda_graphs": graphs}
                run = trained(f"{there}/{precision}-{graphs}", told, **options)
                reference = wanted["float64" if precision == "float64" else "float32"]
                loss, right = (folder.read_metrics()[0].train_loss for folder in (run, reference))
                weights = _largest_difference(run.model_file, reference.model_file)
                difference = weights if precision == "float64" else abs(loss - right) / right
                yield {
                    "precision": precision,
                    "cuda_graphs": graphs,
                    "why_not_recorded": told.why_not_recorded,
                    "loss": loss,
                    "loss_on_cpu": right,
                    "weights_differ": weights,
                    "tolerance": tolerance,
                    "passed": difference <= tolerance,
                }


def _largest_difference(file: Path, reference: Path) -> float:
    """The largest difference between tensors of two models, over the largest absolute value of the tensor."""
    found, wanted = load_file(file), load_file(reference)
    largest = 0.0
    for name, right in wanted.items():
        scale = right.double().abs().max().clamp_min(1e-12)
        largest = max(largest, float((found[name].double() - right.double()).abs().max() / scale))
    return largest


def _networks(quick: bool) -> list[str]:
    return ["digits=32"] if quick else ["cifar10-resnet20=256", "cifar10-resnet18=256"]


def _ways(quick: bool) -> Iterator[tuple[str, str, bool]]:
    """Networks, precisions, and whether to record; what matters most comes first."""
    for network in _networks(quick):
        for precision in ("bfloat16", "float32"):
            for graphs in (False, True):
                yield network, precision, graphs


def speed(device: str, quick: bool) -> Rows:
    """Images a second, beside the plain formulas."""
    sizes = {"rounds": 1, "block": 2, "product_size": 64} if quick else {"rounds": 5, "block": 20}
    ways = [(*way, False) for way in _ways(quick)]
    ways += [(network, "bfloat16", True, True) for network in _networks(quick)]
    for network, precision, graphs, tries_convolutions in ways:
        recipe, told = recipe_of(network), Messages()
        split = random_images(recipe, 16 * recipe.data.batch_size)
        plain = None if graphs else inputs_of(split.part(torch.arange(recipe.data.batch_size)))
        options = RunOptions(device=device, precision=precision, cuda_graphs=graphs)
        torch.backends.cudnn.benchmark = tries_convolutions
        times, module = times_on_device(recipe, 1, split, plain, options, told, **sizes)
        torch.backends.cudnn.benchmark = False
        settings = Settings(precision=precision, device=device, cuda_graphs=graphs)
        yield {
            **row_of(network, recipe, settings, times, module).model_dump(),
            "cuda_graphs": graphs,
            "why_not_recorded": told.why_not_recorded,
            "cudnn_benchmark": tries_convolutions,
            "peak_tera_multiply_accumulates": times.product / 1e12,
        }


def limits(device: str, quick: bool) -> Rows:
    """What limits the speed: kernels a step, and the share of the time in which the device works."""
    for network, precision, graphs in _ways(quick):
        if precision == "bfloat16":
            recipe, told = recipe_of(network), Messages()
            options = RunOptions(device=device, precision=precision, cuda_graphs=graphs)
            split = random_images(recipe, 16 * recipe.data.batch_size)
            with training_step(recipe, 1, split, options, told) as (step, _):
                seen = watch(step, device, 2 if quick else 10)
            found = {"network": network, "precision": precision, "cuda_graphs": graphs, "limit": seen.limit}
            yield {**found, **asdict(seen), "why_not_recorded": told.why_not_recorded}


PARTS: dict[str, Callable[[str, bool], Rows]] = {
    "machine": machine,
    "checks": checks,
    "speed": speed,
    "limits": limits,
}


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("results", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for row in PARTS[options.part](options.device, options.quick):
        with options.results.open("a", encoding="utf-8") as results:
            results.write(json.dumps({"part": options.part, **row}) + "\n")


if __name__ == "__main__":
    main()
