"""The configuration of `biper.binarize_`: which layers of a model become binary, and by which method."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict

from biper.methods.fields import Positive
from biper.methods.settings import AnyMethod, BiperMethod
from biper.quantizers import DEFAULT_FREQUENCY


class BinarizeConfig(BaseModel):
    """The configuration of `binarize_`: which layers become binary, and by which method.

    Without ``include``, all convolution and linear layers become binary except the first and the last such layer of the
    model, in the order of ``model.named_modules()``. Patterns match the qualified name of a layer as a shell matches
    file names: ``"features.*"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] | None = None
    """Patterns of the layers that become binary; None takes all but the first and the last layer."""
    exclude: tuple[str, ...] = ()
    """Patterns of the layers that stay real, even if ``include`` matches them."""
    bits: Literal["W1A1", "W1A32"] = "W1A1"
    """Whether weights and inputs become binary (W1A1) or weights alone (W1A32)."""
    frequency: Positive = DEFAULT_FREQUENCY
    """ω of the new layers, in radians per unit of weight."""
    method: AnyMethod = BiperMethod()
    """The method that maps weights and inputs to bits. The model keeps its activations."""


def reason_to_stay_real(name: str, names: Sequence[str], config: BinarizeConfig) -> str | None:
    """Decide whether a layer becomes binary.

    Args:
        name: the qualified name of the layer.
        names: the qualified names of all convolution and linear layers of the model, in order.
        config: the configuration.

    Returns:
        The reason why the layer stays real, or None if it becomes binary.
    """
    if any(fnmatchcase(name, pattern) for pattern in config.exclude):
        return "excluded"
    if config.include is not None:
        return None if any(fnmatchcase(name, pattern) for pattern in config.include) else "not included"
    if name == names[0]:
        return "the first layer"
    return "the last layer" if name == names[-1] else None
