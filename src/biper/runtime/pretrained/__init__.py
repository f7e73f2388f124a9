"""Packed models that come with the package, for `biper.runtime.load_pretrained`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from biper.errors import ModelError, did_you_mean
from biper.runtime.model import Model

SUFFIX = ".biper"
FOLDER = Path(__file__).resolve().parent
"""Where the files of these models are."""


def pretrained_names() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(file.stem for file in FOLDER.glob(f"*{SUFFIX}"))


def pretrained_file(name: str) -> Path:
    """The file of a model that comes with the package.

    Raises:
        ModelError: no model of this name comes with the package.
    """
    names = pretrained_names()
    if name not in names:
        raise ModelError(f"no pretrained model {name!r} comes with biper{did_you_mean(name, names)}")
    return FOLDER / (name + SUFFIX)


@dataclass(frozen=True)
class ModelCard:
    """How a model that comes with the package was trained, and what it reaches.

    Attributes:
        description: the network and its data, for people.
        data: the name of the data set.
        command: the command that trained it, which ends with the same file on the same kind of machine.
        epochs: of stage 1 and of stage 2.
        weights: of which epoch they are.
        correct: how many test images the packed file classifies right.
        images: how many test images there are.
        machine: what trained it, and how long.
    """

    description: str
    data: str
    command: str
    epochs: str
    weights: str
    correct: int
    images: int
    machine: str

    @property
    def accuracy(self) -> float:
        """The share of test images that the packed file classifies right."""
        return self.correct / self.images


def pretrained_card(name: str) -> ModelCard:
    """The card of a model that comes with the package.

    Raises:
        ModelError: no model of this name comes with the package.
    """
    return ModelCard(**tomllib.loads(pretrained_file(name).with_suffix(".toml").read_text(encoding="utf-8")))


def load_pretrained(name: str, *, threads: int | None = None) -> Model:
    """Load a packed model that comes with the package. This needs neither torch nor a network connection.

    Args:
        name: ``"cifar10-resnet20"`` or ``"digits-cnn"``; `pretrained_card` says how they were trained.
        threads: the number of threads that share the work of one call; see `Model`.

    Raises:
        ModelError: no model of this name comes with the package.
    """
    return Model.load(pretrained_file(name).read_bytes(), threads=threads)
