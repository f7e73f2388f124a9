"""Options that the weights and the inputs of a method have in common, because they share an estimator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from biper.methods.fields import Positive, Settings


class ErrorDecayOptions(Settings):
    """The options of the error-decay estimator of IR-Net, which AdaBin uses too."""

    t_start: Positive = 0.1
    """The steepness of the estimator's tanh at the start of training."""
    t_end: Positive = 10.0
    """The steepness of the estimator's tanh at the end of training."""


class PowerOptions(Settings):
    """The options of the estimator of ReSTE, a power function."""

    order_end: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    """The order at the end of training. The power is one over the order, which is 1 at the start."""
    window: Positive = 1.5
    """The largest magnitude at which a gradient passes."""
    flat: Positive = 0.1
    """The magnitude up to which the gradient is the slope of the chord from zero."""
