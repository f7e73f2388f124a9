from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from biper import BinarizeConfig, BinaryConv1d, binarize_, create_model, load_recipe
from biper.errors import RecipeError
from biper.recipes.decay import DECAY_KINDS
from biper.recipes.load import recipe_from_document
from biper.recipes.schema import StageRecipe
from biper.training.optimizer import make_optimizer
from biper.training.parameters import kinds_of_parameters


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


def decayed(model: nn.Module, on: object) -> set[str]:
    """The names of the parameters that decay."""
    settings = {"epochs": 1, "learning_rate": 0.1, "weight_decay": 0.5, "weight_decay_on": on}
    groups = make_optimizer(model, StageRecipe(**settings), 3.0).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert sorted(names.values()) == sorted(names[parameter] for group in groups for parameter in group["params"])
    return {names[parameter] for group in groups if group["weight_decay"] for parameter in group["params"]}


def test_each_kind_of_parameter_decays_by_itself() -> None:
    method = load_recipe("digits", ["method={inputs='rsign', activation='rprelu', learn_frequency='layer'}"]).method
    model = create_model("digits_cnn", dataset="digits", method=method)
    layers = [f"block{block}.conv{conv}" for block in (1, 2) for conv in (1, 2)]
    found = {kind: decayed(model, [kind]) for kind in DECAY_KINDS}
    assert found["latent"] == {f"{layer}.weight" for layer in layers}
    assert found["scales"] == {f"{layer}.scale" for layer in layers}
    assert found["inputs"] == {f"{layer}.input_quantizer.threshold" for layer in layers}
    assert found["others"] == {f"{layer}.weight_quantizer.log_gain" for layer in layers}
    assert "conv1.weight" in found["real"]
    assert "fc.weight" in found["real"]
    assert found["biases"] == {"fc.bias"}
    assert {name.rsplit(".", 1)[1] for name in found["activations"]} == {"shift_in", "slope", "shift_out"}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)}
    assert found["norms"] == {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    everything = {name for name, _ in model.named_parameters()}
    assert set.union(*found.values()) == everything == decayed(model, "all") == decayed(model, DECAY_KINDS)
    assert sum(map(len, found.values())) == len(everything)
    assert decayed(model, "weights") == decayed(model, ("real", "latent")) == found["latent"] | found["real"]


def test_thresholds_that_binarize_adds_are_inputs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    binarize_(model, BinarizeConfig(activation="keep"), example=torch.randn(2, 1, 6, 6))
    kinds = {name: kinds_of_parameters(model)[parameter] for name, parameter in model.named_parameters()}
    assert [name for name, kind in kinds.items() if kind == "inputs"] == [
        name for name in kinds if name.endswith("threshold")
    ]
    assert any(name.endswith("threshold") for name in kinds)


@pytest.mark.parametrize("text", ["latent,real", '["latent", "real"]', "latent, real"])
def test_kinds_are_a_list_or_a_text_with_commas(text: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits", [f"stage1.weight_decay_on={text}"])
    assert recipe.stage1.weight_decay_on == ("latent", "real")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    assert recipe_from_document(json.loads(recipe.model_dump_json()), "json") == recipe


@pytest.mark.parametrize("text", ["weigths", "[]", "latent,latent", '["latent", "weights"]', "3", "[3]"])
def test_unknown_kinds_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r'stage2\.weight_decay_on: expected "all", "weights", or a list of "latent"'):
        load_recipe("digits", [f"stage2.weight_decay_on={text}"])
