"""Everything that a run must remember to go on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Position:
    """Where a run stands. ``epoch`` and ``step`` count what is done: within the stage, and within the epoch."""

    stage: int = 1
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    """Over the images of the unfinished epoch."""
    correct: int = 0
    images: int = 0
    best_accuracy: float = -1.0
    """On the held-out images, in this stage; with selection "held-out" only."""
    best_epoch: int = 0
    metrics_bytes: int = 0
    """Length of metrics.jsonl: what was appended after it is done again."""
    seconds: float = 0.0
    """Spent training, evaluating and saving, over all processes of the run."""
    results: dict[str, Any] = field(default_factory=dict)
    """What the finished stages reached."""


def pack_state(
    position: Position, model: nn.Module, optimizer: torch.optim.Optimizer, best: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The whole state as tensors and a JSON document, for `biper.io.tensors`.

    Holds the position, model (frequencies and stage included), optimizer, random generators and the best weights.
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
    document = {
        "position": asdict(position),
        "optimizer": {"numbers": numbers, "param_groups": packed["param_groups"]},
        "random": {"python": [version, gauss], "numpy": [name, int(index), int(has_gauss), float(cached)]},
    }
    return tensors, document


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], document: Mapping[str, Any]
) -> None:
    """Put the packed optimizer state back, each tensor in the layout of its parameter (so that bits repeat)."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in document["optimizer"]["numbers"].items()}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = name.split("/", 2)
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": document["optimizer"]["param_groups"]})


def restore_random(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Put the states of torch's, Python's and NumPy's global generators back."""
    torch.set_rng_state(tensors["random/torch"])
    for device in range(torch.cuda.device_count()):
        if f"random/cuda/{device}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random/cuda/{device}"], device)
    version, gauss = document["random"]["python"]
    random.setstate((version, tuple(tensors["random/python"].tolist()), gauss))
    name, index, has_gauss, cached = document["random"]["numpy"]
    np.random.set_state((name, tensors["random/numpy"].numpy().astype(np.uint32), index, has_gauss, cached))


def entries(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
