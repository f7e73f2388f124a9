from __future__ import annotations

import math

import pytest

from biper import load_recipe
from biper.errors import RecipeError
from biper.recipes.schema import StageRecipe
from biper.training.schedules import learning_rate


def rates(steps_per_epoch: int, **settings: float | str) -> list[float]:
    stage = StageRecipe(learning_rate=0.5, **settings)  # type: ignore[arg-type]
    return [learning_rate(stage, step, steps_per_epoch) for step in range(stage.epochs * steps_per_epoch)]


def test_each_cycle_is_a_cosine_from_the_whole_rate_to_the_end() -> None:
    end = 0.1
    found = rates(
        10, epochs=8, warmup_epochs=1.0, schedule="restarts", cycles=3, cycle_growth=2.0, learning_rate_end=end
    )
    assert found[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    for begin, length in ((10, 10), (20, 20), (40, 40)):
        expected = [end + 0.2 * (1 + math.cos(math.pi * step / length)) for step in range(length)]
        assert found[begin : begin + length] == pytest.approx(expected)
        assert found[begin] == 0.5


def test_cycles_begin_at_whole_steps_with_the_whole_rate() -> None:
    for steps, cycles in ((10, 3), (7, 2), (100, 7), (3, 5)):
        found = rates(1, epochs=steps, schedule="restarts", cycles=cycles)
        assert sum(rate == 0.5 for rate in found) == min(cycles, steps)
        assert found[0] == 0.5
    grown = rates(1, epochs=5, schedule="restarts", cycles=100, cycle_growth=10.0)  # all but the last have no step
    assert grown == pytest.approx(rates(1, epochs=5))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage2.schedule=restarts"], 'stage2: schedule = "restarts" needs cycles'),
        (["stage1.cycles=3"], 'stage1: cycles and cycle_growth are for schedule = "restarts", not for "cosine"'),
        (["stage1.schedule=linear", "stage1.cycle_growth=2.0"], 'for schedule = "restarts", not for "linear"'),
        (["stage1.schedule=restarts", "stage1.cycles=1"], "stage1.cycles: must be greater than or equal to 2"),
        (["stage1.schedule=restarts", "stage1.cycles=3", "stage1.cycle_growth=0.5"], "stage1.cycle_growth"),
    ],
)
def test_cycles_belong_to_restarts(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits", overrides)
