"""Which layers of a model `biper.binarize_` changes, and into what."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from biper.methods.settings import AnyMethod, BiperMethod


class BinarizeConfig(BaseModel):
    """Which layers `binarize_` changes, and into what.

    Without ``include``, every convolution and linear layer is made binary but the first and the last such layer
    of the model (in the order of `named_modules`). With ``include``, those whose qualified name matches one of its
    patterns (as in a shell: ``"features.*"``). ``exclude`` keeps matching layers real in either case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    bits: Literal["W1A1", "W1A32"] = "W1A1"
    frequency: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """ω of the new layers, in radians per unit of weight."""
    method: AnyMethod = BiperMethod()
    """How weights and inputs become bits. The model keeps its activations."""


def decider(names: list[str], config: BinarizeConfig) -> Callable[[str], str]:
    """A function from a layer's name to the reason why it stays real, empty if it does not."""

    def decide(name: str) -> str:
        if any(fnmatchcase(name, pattern) for pattern in config.exclude):
            return "excluded"
        if config.include is not None:
            return "" if any(fnmatchcase(name, pattern) for pattern in config.include) else "not included"
        if name == names[0]:
            return "the first layer"
        return "the last layer" if name == names[-1] else ""

    return decide
