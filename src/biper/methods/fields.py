"""What all configuration is made of: frozen, strict tables, and numbers with bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """A group of settings: nothing is converted, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
