"""Packed models that come with the package, for `biper.runtime.load_pretrained`."""

from __future__ import annotations

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


def load_pretrained(name: str, *, threads: int = 1) -> Model:
    """Load a packed model that comes with the package. This needs neither torch nor a network connection.

    Args:
        name: ``"cifar10-resnet20"``, whose accuracy is in docs/results.md.
        threads: the number of threads that share the work of one call.

    Raises:
        ModelError: no model of this name comes with the package.
    """
    return Model.load(pretrained_file(name).read_bytes(), threads=threads)
