"""The state of a run in training: everything that a checkpoint holds, so that a resumed run repeats every bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biper.errors import CheckpointError
from biper.io.toml import shortened
from biper.runs.fields import Fields
from biper.runs.records import StageResult, stages_from_json, stages_to_json


@dataclass
class Position:
    """How far a run has come, with the sums of its unfinished epoch.

    Attributes:
        stage: the stage that is trained, counted from 1.
        epoch: how many epochs of the stage are done.
        step: how many steps of the unfinished epoch are done.
        loss_sum: the sum of the losses of the images of the unfinished epoch.
        correct: how many of these images were classified correctly.
        images: how many images these are.
        best_accuracy: the best accuracy on held-out images in this stage; -1 if there are no held-out images.
        best_epoch: the epoch that reached it.
        metrics_bytes: the length of metrics.jsonl; rows after it belong to epochs that are trained again.
        seconds: time spent training, evaluating and saving; a resumed run continues the count.
        results: the results of the finished stages.
    """

    stage: int = 1
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    metrics_bytes: int = 0
    seconds: float = 0.0
    results: tuple[StageResult, ...] = ()

    def next_stage(self) -> Position:
        """The position at the beginning of the next stage."""
        return Position(
            stage=self.stage + 1, metrics_bytes=self.metrics_bytes, seconds=self.seconds, results=self.results
        )

    def add_step(self, loss_sum: float, correct: int, images: int) -> None:
        """Count a step that was just done, with the sums over its images."""
        self.step += 1
        self.loss_sum += loss_sum
        self.correct += correct
        self.images += images

    def end_epoch(self) -> None:
        """Count an epoch that was just done, and clear the sums of its steps."""
        self.epoch += 1
        self.step = self.correct = self.images = 0
        self.loss_sum = 0.0

    @property
    def train_loss(self) -> float:
        """The mean loss over the images of the unfinished epoch, in nats."""
        return self.loss_sum / self.images

    @property
    def train_accuracy(self) -> float:
        """The share of the images of the unfinished epoch that were classified correctly."""
        return self.correct / self.images

    def to_json(self) -> dict[str, Any]:
        """The position as JSON values, as a checkpoint holds it."""
        return {**asdict(self), "results": stages_to_json(self.results)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Position:
        """Read the position of a checkpoint.

        Raises:
            ValueError, TypeError: it is not what `to_json` gave.
        """
        fields = Fields(document)
        results = stages_from_json(Fields(fields.table("results")))
        integers = ("stage", "epoch", "step", "correct", "images", "best_epoch", "metrics_bytes")
        counts = {key: fields.integer(key) for key in integers}
        numbers = {key: fields.number(key) for key in ("loss_sum", "best_accuracy", "seconds")}
        wrong = next((key for key, value in counts.items() if not 0 <= value < 1 << 62), None)
        if wrong is not None or not 1 <= counts["stage"] <= 2:
            raise ValueError(f"expected stage 1 or 2 and counts from 0 on, got {wrong or 'stage'} of another size")
        values: dict[str, Any] = {**counts, **numbers}
        return cls(**values, results=results)


def pack_state(
    position: Position, model: nn.Module, optimizer: torch.optim.Optimizer, best: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of a run as tensors and a JSON document, in the form that `biper.io.tensors.save_tensors` takes.

    The state holds the position, the model (with the stage and the frequencies of its layers), the optimizer, the
    global random generators of torch, Python and NumPy, and the best weights so far.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in (best or {}).items()}
    packed = optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, entries in packed["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    tensors["random/torch"] = torch.get_rng_state()
    for device in range(torch.cuda.device_count()):
        tensors[f"random/cuda/{device}"] = torch.cuda.get_rng_state(device)
    version, python_state, gauss = random.getstate()
    name, keys, index, has_gauss, cached = np.random.get_state()
    tensors["random/python"] = torch.tensor(python_state, dtype=torch.int64)
    tensors["random/numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    groups = [{key: _plain(value) for key, value in group.items()} for group in packed["param_groups"]]
    document = {
        "position": position.to_json(),
        "optimizer": {"numbers": numbers, "param_groups": groups},
        "random": {"python": [version, gauss], "numpy": [name, int(index), int(has_gauss), float(cached)]},
    }
    return tensors, document


def _plain(value: Any) -> Any:
    """A setting of an optimizer as a JSON value; a learning rate may lie on a device."""
    return value.item() if isinstance(value, Tensor) else value


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turns what goes wrong with the content of a checkpoint in the ``with`` block into an error of one line.

    Raises:
        CheckpointError: a value is missing, of another type or shape, or out of range.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise CheckpointError(f"{path} holds no state of this run: {type(error).__name__}: {reason}") from error


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], document: Mapping[str, Any]
) -> None:
    """Load the packed state into an optimizer.

    Each tensor takes the memory layout of its parameter, so that the same steps give the same bits.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in document["optimizer"]["numbers"].items()}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = name.split("/", 2)
            parameter = parameters[int(number)]
            if value.shape not in (parameter.shape, torch.Size()):
                raise ValueError(f"{name} has the shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(number), {})[key] = value
    for saved, own in zip(document["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
        for key, value in own.items():
            is_number = isinstance(value, int | float)
            if is_number and key in saved and not (type(saved[key]) in (int, float, bool) and abs(saved[key]) < 1e30):
                raise ValueError(f"expected a number for {key} of the optimizer, got {saved[key]!r}")
    optimizer.load_state_dict({"state": state, "param_groups": document["optimizer"]["param_groups"]})


def restore_random(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Restore the global random generators of torch, Python and NumPy to their packed states."""
    torch.set_rng_state(tensors["random/torch"])
    for device in range(torch.cuda.device_count()):
        if f"random/cuda/{device}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random/cuda/{device}"], device)
    version, gauss = document["random"]["python"]
    random.setstate((version, tuple(tensors["random/python"].tolist()), gauss))
    name, index, has_gauss, cached = document["random"]["numpy"]
    np.random.set_state((name, tensors["random/numpy"].numpy().astype(np.uint32), index, has_gauss, cached))


def entries(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
