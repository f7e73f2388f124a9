"""The checkpoint files that the authors' scripts write: ``model_best.pth.tar``, and ``config.txt`` in its folder.

A checkpoint holds the name of the network and its state dict, but not the frequency, the stage or the data set. They
are in ``config.txt``, which holds one line ``name:  value`` for every option of the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biper.data.specs import dataset_spec
from biper.errors import CheckpointError
from biper.interop.authors_networks import datasets_of, load_reference_state_dict, our_network
from biper.interop.plain_tensors import problem_of, require_uncompressed
from biper.io.files import read_regular
from biper.io.toml import shortened
from biper.models.saved import MODEL_FILE, ModelInfo, save_model
from biper.quantizers import Stage

MAX_CONFIG = 1 << 20
"""The largest ``config.txt``, in bytes."""

_DATASETS = {"tinyimagenet": "tiny-imagenet"}
"""The authors' names of data sets, and our names, where they differ."""


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """The content of a checkpoint of the authors' scripts, completed from ``config.txt``; `load` makes the network."""

    path: Path
    model: str
    """The authors' name of the network, such as ``"resnet20_1w1a"``."""
    dataset: str
    frequency: float
    """ω, in radians per unit of weight."""
    stage: Stage
    state_dict: Mapping[str, Tensor]
    epoch: int | None
    """Number of epochs that were trained, if the checkpoint has it."""
    best_top1: float | None
    """The best accuracy on test images that the script had measured, in percent, if the checkpoint has it."""

    def load(self) -> nn.Module:
        """Make the network, in evaluation mode; see `load_reference_state_dict`."""
        return load_reference_state_dict(
            self.model, self.state_dict, dataset=self.dataset, frequency=self.frequency, stage=self.stage
        )


def read_reference_checkpoint(
    path: str | Path,
    *,
    model: str | None = None,
    dataset: str | None = None,
    frequency: float | None = None,
    stage: Stage | str | int | None = None,
) -> ReferenceCheckpoint:
    """Read one of the authors' checkpoints, and its options from ``config.txt`` in the same folder.

    Only tensors, numbers and texts are read from the file (``weights_only=True``), so loading it runs no code.

    Args:
        path: ``model_best.pth.tar`` or ``checkpoint.pth.tar`` as the authors' scripts save it, or a file that holds the
            state dict alone.
        model: the authors' name of the network; default that of the checkpoint, else that of ``config.txt``.
        dataset: the data set; default that of ``config.txt``, else the only one with these names and classes.
        frequency: ω, in radians per unit of weight; default that of ``config.txt``.
        stage: 1 or 2; default that of ``config.txt``.

    Raises:
        CheckpointError: the file cannot be read safely or is no checkpoint, ``config.txt`` is of another network, or
            neither the arguments nor the files give one of the values, which the message names.
    """
    path = Path(path)
    document = _read_pickle(path)
    config = _read_config(path.with_name("config.txt"))
    state_dict = document.get("state_dict", document)
    if not isinstance(state_dict, Mapping) or not _names_tensors(state_dict):
        raise CheckpointError(f"{path} holds no state dict: expected a checkpoint of the authors' scripts")
    for name, value in state_dict.items():
        if isinstance(value, Tensor) and (problem := problem_of(value)):
            raise CheckpointError(f"{path}: {shortened(name)} {problem}")
    said = document.get("model") if "state_dict" in document else None
    if not isinstance(said, str | None):
        raise CheckpointError(f"{path} names its network by a {type(said).__name__}, expected a text")
    if (frequency is None or stage is None) and said is not None and config.get("model", said) != said:
        raise CheckpointError(
            f"{path} is a {said}, but config.txt beside it is of a {config['model']}: "
            "its frequency and stage may be wrong; put the right config.txt there, or none"
        )
    model = model or said or config.get("model")
    if model is None:
        raise CheckpointError(f"{path} does not say which network it is; give its name with model=...")
    if frequency is None:
        frequency = _number(config, "freq", path)
    if stage is None:
        stage = _flag(config, "stage2", path) + 1
    if dataset is None:
        dataset = _dataset(config, model, state_dict, path)
    epoch, best = document.get("epoch"), document.get("best_prec1")
    return ReferenceCheckpoint(
        path=path,
        model=model,
        dataset=dataset,
        frequency=frequency,
        stage=Stage.of(stage),
        state_dict=state_dict,
        epoch=epoch if isinstance(epoch, int) else None,
        best_top1=float(best) if isinstance(best, int | float) and abs(best) <= 100 else None,
    )


def load_reference_checkpoint(
    path: str | Path,
    *,
    model: str | None = None,
    dataset: str | None = None,
    frequency: float | None = None,
    stage: Stage | str | int | None = None,
) -> nn.Module:
    """Make our form of the network in one of the authors' checkpoints.

    The arguments are those of `read_reference_checkpoint`. The frequency and the stage have no default: it is an error
    if neither ``config.txt`` nor the caller gives them.

    Returns:
        The network on the CPU in evaluation mode, in its stage.

    Raises:
        CheckpointError: as for `read_reference_checkpoint`; or the state dict is not of that network.
        DataError, ModelError: the data set or the network is unknown, or the frequency or the stage is out of range.
    """
    return read_reference_checkpoint(path, model=model, dataset=dataset, frequency=frequency, stage=stage).load()


def import_reference(checkpoint: ReferenceCheckpoint, out: str | Path) -> ModelInfo:
    """Turn one of the authors' checkpoints into a run folder, which every other command takes.

    Args:
        checkpoint: from `read_reference_checkpoint`.
        out: the folder to make; ``model.safetensors`` in it is the model.

    Returns:
        The description that is saved with the model.

    Raises:
        CheckpointError: ``out`` holds a run or a model already, or cannot be written; the state dict is not of the
            network.
        DataError, ModelError: the data set or the network is unknown, or the frequency is out of range.
    """
    folder = Path(out)
    if any((folder / name).exists() for name in ("recipe.toml", MODEL_FILE)):
        raise CheckpointError(f"{folder} already holds a run or a model; name another folder with out=...")
    network = checkpoint.load()
    name, bits = our_network(checkpoint.model, checkpoint.dataset)
    spec = dataset_spec(checkpoint.dataset)
    source = {
        "file": checkpoint.path.name,
        "model": checkpoint.model,
        "epoch": checkpoint.epoch,
        "best_top1": checkpoint.best_top1,
    }
    info = ModelInfo(
        name=name,
        dataset=checkpoint.dataset,
        num_classes=len(network.state_dict()["fc.bias"]),
        bits=bits,
        frequency=checkpoint.frequency,
        mean=spec.mean,
        std=spec.std,
        classes=(),
        details={"reference": source},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    save_model(folder / MODEL_FILE, network, info)
    return info


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        require_uncompressed(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:  # torch.load raises many kinds
        raise CheckpointError(
            f"{path} is no checkpoint, is corrupt, or holds more than tensors, numbers and texts, which is not loaded "
            f"because it could run code ({type(error).__name__})"
        ) from error
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected a checkpoint or a state dict")
    return document


def _names_tensors(state_dict: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in state_dict) and any(
        isinstance(value, Tensor) for value in state_dict.values()
    )


def _read_config(path: Path) -> dict[str, str]:
    """The options in a ``config.txt``; an empty mapping if there is no such file."""
    try:
        lines = read_regular(path, MAX_CONFIG).decode().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and value.strip()}


def _number(config: Mapping[str, str], option: str, path: Path) -> float:
    if option not in config:
        raise CheckpointError(
            f"nothing says with which frequency {path} was trained: no {option} in a config.txt beside it; give it "
            "with frequency=... (with a wrong one the signs of the weights are wrong)"
        )
    try:
        return float(config[option])
    except ValueError:
        raise CheckpointError(f"{path.with_name('config.txt')}: {option} is {config[option]!r}, not a number") from None


def _flag(config: Mapping[str, str], option: str, path: Path) -> bool:
    if config.get(option) not in ("True", "False"):
        raise CheckpointError(
            f"nothing says of which stage {path} is: no {option} in a config.txt beside it; give stage=1 or stage=2"
        )
    return config[option] == "True"


def _dataset(config: Mapping[str, str], model: str, state_dict: Mapping[str, Tensor], path: Path) -> str:
    if "dataset" in config:
        return _DATASETS.get(config["dataset"], config["dataset"])
    candidates = datasets_of(model, state_dict)
    if len(candidates) != 1:
        raise CheckpointError(
            f"nothing says of which data set {path} is: no dataset in a config.txt beside it, and its classes do not "
            f"tell ({' or '.join(candidates) or 'none has as many'}); give it with dataset=..."
        )
    return candidates[0]
