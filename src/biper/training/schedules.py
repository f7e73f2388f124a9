"""Learning-rate schedules as functions of the step, so that a checkpoint needs no state of them."""

from __future__ import annotations

import math

from biper.recipes.schema import StageRecipe


def learning_rate(stage: StageRecipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step.

    During the warm-up, the rate rises linearly and reaches ``stage.learning_rate`` in the last step of the warm-up.
    Then it falls to ``stage.learning_rate_end``: with t from 0 to 1 over the rest of the stage, the difference of the
    two is multiplied by ``(1 + cos(π t)) / 2`` for ``"cosine"``, by ``1 - t`` for ``"linear"``, and by 1 for
    ``"constant"``.

    Args:
        stage: the settings of the stage.
        step: the number of the step within the stage, counted from 0.
        steps_per_epoch: how many steps an epoch has.
    """
    total = stage.epochs * steps_per_epoch
    warmup = min(round(stage.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(total - warmup, 1)
    left = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[stage.schedule]
    return stage.learning_rate_end + (stage.learning_rate - stage.learning_rate_end) * left
