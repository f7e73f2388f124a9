"""The base class of all configuration tables, and types of bounded numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MOST = 1_000_000
"""The most epochs, images in a batch and so on: more is a mistake, and could take memory before anyone sees it."""
LARGEST_SIDE = 1 << 14
"""The most pixels of a side, or of a padding."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number from 0 on."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""
Share = Annotated[float, Field(gt=0, le=1)]
"""A number above 0 and up to 1."""


class Settings(BaseModel):
    """A frozen table of settings. Values of another type are errors and are not converted; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def described(problem: Any) -> str:
    """What pydantic says about a wrong value, in the words of this library.

    Args:
        problem: an item of ``ValidationError.errors()``.
    """
    message = str(problem["msg"]).removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
    return f"{message}, got {repr(problem['input'])[:200]}"
