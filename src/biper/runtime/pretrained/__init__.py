"""Packed models that come with the package, for `biper.runtime.load_pretrained`."""

from __future__ import annotations

from importlib import resources

from biper.errors import ModelError, did_you_mean
from biper.runtime.model import Model

SUFFIX = ".biper"


def pretrained_names() -> list[str]:
    """The names of the models that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX))


def load_pretrained(name: str, *, threads: int = 1) -> Model:
    """Load a packed model that comes with the package. This needs neither torch nor a network connection.

    Args:
        name: ``"cifar10-resnet20"``, whose accuracy is in docs/results.md.
        threads: the number of threads that share the work of one call.

    Raises:
        ModelError: no model of this name comes with the package.
    """
    names = pretrained_names()
    if name not in names:
        raise ModelError(f"no pretrained model {name!r} comes with biper{did_you_mean(name, names)}")
    return Model.load(resources.files(__name__).joinpath(name + SUFFIX).read_bytes(), threads=threads)
