"""Learning-rate schedules: plain functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math

from biper.recipe import StageRecipe


def learning_rate(stage: StageRecipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (counted from 0 within the stage).

    During the warm-up it rises linearly, reaching ``stage.learning_rate`` with its last step; then, with
    ``"cosine"``, it falls as ``lr (1 + cos(π t)) / 2`` for t from 0 to 1 over the rest of the stage, or stays,
    with ``"constant"``.
    """
    total = stage.epochs * steps_per_epoch
    warmup = min(round(stage.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    if stage.schedule == "constant":
        return stage.learning_rate
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
