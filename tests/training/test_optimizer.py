from __future__ import annotations

import pytest
import torch
from torch import nn

from biper import BinaryConv1d, load_recipe
from biper.errors import RecipeError
from biper.recipes.schema import StageRecipe
from biper.training.optimizer import make_optimizer


@pytest.mark.parametrize("on", ["all", "weights"])
def test_adamw_makes_the_step_of_its_formula(on: str) -> None:
    model = nn.Sequential(BinaryConv1d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    stage = StageRecipe(
        epochs=1,
        learning_rate=0.1,
        optimizer="adamw",
        betas=(0.5, 0.8),
        epsilon=1e-3,
        weight_decay=0.2,
        weight_decay_on=on,
    )
    optimizer = make_optimizer(model, stage)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    gradients = [{name: torch.randn_like(value) for name, value in before.items()} for _ in range(2)]
    for step in gradients:
        for name, parameter in model.named_parameters():
            parameter.grad = step[name].clone()
        optimizer.step()
    for name, parameter in model.named_parameters():
        first, second, value = torch.zeros(()), torch.zeros(()), before[name]
        for number, step in enumerate(gradients, 1):
            decayed = on == "all" or name in ("0.weight", "2.weight")
            value = value * (1 - 0.1 * 0.2 * decayed)
            first = 0.5 * first + 0.5 * step[name]
            second = 0.8 * second + 0.2 * step[name] ** 2
            root = (second / (1 - 0.8**number)).sqrt() + 1e-3
            value = value - 0.1 * first / (1 - 0.5**number) / root
        torch.testing.assert_close(parameter.detach(), value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage1.optimizer=adam", "stage1.optimizer: must be 'sgd' or 'adamw', got 'adam'"),
        ("stage1.betas=[0.9, 1.0]", "less than 1, got 1.0"),
        ("stage1.epsilon=0.0", "greater than 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits", [override])
