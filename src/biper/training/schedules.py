"""Learning-rate schedules: plain functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from biper.recipes.schema import StageRecipe


def learning_rate(stage: StageRecipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (counted from 0 within the stage).

    During the warm-up it rises linearly, reaching ``stage.learning_rate`` with its last step; then it falls to
    ``stage.learning_rate_end``, for t from 0 to 1 over the rest of the stage as ``(1 + cos(π t)) / 2`` with
    ``"cosine"`` and as ``1 - t`` with ``"linear"``, or stays, with ``"constant"``.
    """
    total = stage.epochs * steps_per_epoch
    warmup = min(round(stage.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    left = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[stage.schedule]
    return stage.learning_rate_end + (stage.learning_rate - stage.learning_rate_end) * left
