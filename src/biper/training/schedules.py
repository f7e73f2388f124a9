"""Learning-rate schedules as functions of the step, so that a checkpoint needs no state of them."""

from __future__ import annotations

import bisect
import itertools
import math

from biper.recipes.schema import StageRecipe


def learning_rate(stage: StageRecipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of one step.

    During the warm-up, the rate rises linearly and reaches ``stage.learning_rate`` in the last step of the warm-up.
    Then it falls to ``stage.learning_rate_end``: with t from 0 to 1 over the rest of the stage, the difference of the
    two is multiplied by ``(1 + cos(π t)) / 2`` for ``"cosine"``, by ``1 - t`` for ``"linear"``, and by 1 for
    ``"constant"``. For ``"restarts"`` the rest of the stage is divided into ``stage.cycles`` cycles of whole steps,
    each ``stage.cycle_growth`` times as long as the one before it; in each, t goes from 0 to 1 with the factor of
    ``"cosine"``.

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
    if stage.schedule == "restarts":
        done = _done_of_cycle(stage, step - warmup, total - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    left = {"cosine": cosine, "restarts": cosine, "linear": 1 - done, "constant": 1.0}[stage.schedule]
    return stage.learning_rate_end + (stage.learning_rate - stage.learning_rate_end) * left


def _done_of_cycle(stage: StageRecipe, step: int, steps: int) -> float:
    """The share of its cycle that is done at a step, counted from 0 after the warm-up, of ``steps`` in all."""
    count = stage.cycles or 1
    lengths = [stage.cycle_growth ** (number - count) for number in range(count)]
    begins = [round(steps * before / sum(lengths)) for before in itertools.accumulate([0.0, *lengths])]
    begins[-1] = steps
    cycle = bisect.bisect_right(begins, step, hi=len(begins) - 1) - 1
    return (step - begins[cycle]) / max(begins[cycle + 1] - begins[cycle], 1)
