"""The kinds of parameters that a recipe tells apart: each may have weight decay or not.

A scale in front of a batch norm changes nothing that the network computes, so that its gradient along itself is zero
and weight decay alone moves it: smaller, which makes the steps of the other parameters larger in proportion. Which of
the kinds below gain by decay is a question for experiments; `StageRecipe.weight_decay_on` asks it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

DecayKind = Literal["latent", "real", "scales", "inputs", "activations", "norms", "biases", "others"]
"""The kinds of parameters; see `biper.training.parameters.kinds_of_parameters` for which is of which kind."""

DECAY_KINDS: tuple[str, ...] = get_args(DecayKind)
"""The names of the kinds."""


def read_kinds(value: Any) -> Any:
    """Read ``weight_decay_on`` of a recipe: ``"all"``, ``"weights"``, a list of kinds, or one text with commas.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str) and value in ("all", "weights"):
        return value
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if (
        not isinstance(parts, list | tuple)
        or not parts
        or not all(isinstance(part, str) and part in DECAY_KINDS for part in parts)
        or len(set(parts)) < len(parts)
    ):
        kinds = ", ".join(f'"{kind}"' for kind in DECAY_KINDS)
        raise ValueError(f'expected "all", "weights", or a list of {kinds}, each at most once')
    return tuple(parts)
