"""Methods as settings: in recipes, by name, as tables, and in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from biper import create_model, load_recipe
from biper.errors import ModelError, RecipeError
from biper.methods.presets import METHODS
from biper.methods.settings import Method, read_method
from biper.methods.weights import BiperWeights


def test_a_recipe_names_its_method_and_options_and_reads_back(tmp_path: Path) -> None:
    changes = ["method.name=ir-net", "method.t_end=5.0", "method.learning_rate_factor=10.0"]
    recipe = load_recipe("digits", changes)
    assert (recipe.method.name, recipe.method.learning_rate_factor) == ("ir-net", 10.0)
    assert recipe.method.weights.t_end == recipe.method.inputs.t_end == 5.0
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    tuned = load_recipe("digits", ["method.learn_frequency=channel", "method.target_error=0.05"])
    assert tuned.method == Method(weights=BiperWeights(learn_frequency="channel", target_error=0.05))
    assert load_recipe("digits").method == Method()
    assert not BiperWeights(relaxed_stage=False).is_tuned
    assert BiperWeights(wave="triangle").is_tuned


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.name=irnet", "no method 'irnet'; did you mean 'ir-net'? Known: biper, bnn, "),
        ("method.tau_end=0.9", "unknown key 'method.tau_end'"),
        ("method.learn_frequencies=layer", "unknown key 'method.learn_frequencies'; did you mean 'method.learn_freq"),
        ("method.learn_frequency=all", "method.learn_frequency: must be 'no', 'layer' or 'channel', got 'all'"),
        ("method.target_error=0.2", "method.target_error: must be less than or equal to 0.1028, got 0.2"),
        ("method.learning_rate_factor=0", "method.learning_rate_factor: must be greater than 0, got 0"),
        ('method={name="recu", tau_end=1.0}', "method.tau_end: must be less than 1, got 1.0"),
        ('method={name="recu", tau_ent=0.9}', "unknown key 'method.tau_ent'; did you mean 'method.tau_end'?"),
        ("method={relaxed_stage=false, sharpen_from=0.5}", "method: frequency_end and sharpen_from are about stage 1"),
        ("method=3", "method: "),
    ],
)
def test_wrong_methods_are_one_line(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_methods_are_read_from_names_and_tables() -> None:
    assert read_method(None) == read_method("biper") == Method()
    assert read_method({"name": "reste", "order_end": 2.0}).inputs.order_end == 2.0
    for wrong, message in (
        ("bin", "no method 'bin'.* biper, bnn"),
        ({"name": "bnn", "t": 1}, r"unknown key 'method\.t'"),
    ):
        with pytest.raises(ModelError, match=message):
            read_method(wrong)
    with pytest.raises(ModelError, match="no method 'bin'"):
        create_model("digits_cnn", dataset="digits", method="bin")


def test_every_method_and_option_is_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "methods.md").read_text(encoding="utf-8")
    for name, kind in METHODS.items():
        assert len(re.findall(rf"^\| `{name}` \|", page, re.MULTILINE)) == 2
        for option, field in kind.model_fields.items():
            if option != "name":
                default = "" if field.default is None else f" = {json.dumps(field.default)}"
                assert f"`{option}{default}`" in page, (name, option)


def test_one_stage_methods_train_the_epochs_of_both_stages_with_the_settings_of_the_first() -> None:
    recipe = load_recipe("digits", ["method.name=bnn"])
    assert recipe.stages == (recipe.stage1.model_copy(update={"epochs": 60}),)
    assert len(load_recipe("digits").stages) == 2
    assert [stage.epochs for stage in load_recipe("digits", ["method.relaxed_stage=false"]).stages] == [60]
