"""Methods as settings: in recipes, by name, as tables, and in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from biper import create_model, load_recipe
from biper.errors import ModelError, RecipeError
from biper.methods.inputs import ApproxSignInputs
from biper.methods.presets import METHODS
from biper.methods.settings import CHOICES, Method, read_method
from biper.methods.weights import BiperWeights
from biper.recipes.schema import Recipe


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
        ("method.weights=recue", "method.weights: there is no 'recue'; did you mean 'recu'? Known: biper, ste, "),
        ("method.inputs=3", "method.inputs: expected a name or a table with a name, got 3"),
        ("method.activation=relu", "method.activation: there is no 'relu'; did you mean 'prelu'? Known: network, "),
        ("method.weights.tau_end=0.9", "unknown key 'method.weights.tau_end'; it is an option of weights = \"recu\""),
        ('method={weights="recu", wave="sine"}', "unknown key 'method.wave'; it is an option of weights = \"biper\""),
        ('method={wave="sine", weights={wave="sine"}}', "method.wave and method.weights.wave set the same option"),
        ("method.input=rsign", "unknown key 'method.input'; did you mean 'method.inputs'?"),
        (
            'method={name="recu", weights="biper", inputs="ste", activation="network"}',
            "method.name = 'recu' has no effect beside method.weights, method.inputs and method.activation",
        ),
        ("method.phase_deviation=0", "method.phase_deviation: must be greater than 0, got 0"),
        ("method.phase_deviation_end=1.0", "method: phase_deviation_end is about a standardized phase: set phase_dev"),
        ("method.phase_group=layer", "method: phase_group is about a standardized phase: set phase_deviation too"),
        ("method={phase_deviation=1.5, frequency_end=40.0}", "method: frequency_end is about a phase of fixed freq"),
        ("method={phase_deviation=1.5, target_error=0.05}", "method: target_error and phase_deviation both set the"),
        (
            "method={phase_deviation=1.5, phase_deviation_end=2.0, relaxed_stage=false}",
            "method: phase_deviation_end is about stage 1, which relaxed_stage = false leaves out",
        ),
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


def test_choices_replace_those_of_a_published_method() -> None:
    recipe = load_recipe("cifar10-resnet20-two-stage-short", ["method.inputs=rsign", "method.activation=rprelu"])
    method = read_method(
        {"weights": {"name": "biper", "sharpen_from": 0.15}, "inputs": "rsign", "activation": {"name": "rprelu"}}
    )
    assert recipe.method == method
    assert (method.preset, method.name, method.stages) == (None, "biper+rsign+rprelu", (1, 2))
    flat = {"weights": "biper", "sharpen_from": 0.15, "inputs": "rsign", "activation": "rprelu"}
    assert read_method(flat) == method
    assert load_recipe("digits", ["method=reactnet"]).method == read_method("reactnet")
    assert read_method({"weights": "bi-real", "inputs": "rsign", "activation": "rprelu"}) == read_method("reactnet")
    assert read_method({"name": "reactnet", "weights": "recu"}).name == "recu+rsign+rprelu"
    changes = ["method.weights=biper", "method.weights.phase_deviation=1.5", "method.weights.wave=triangle"]
    assert load_recipe("digits", changes).method.weights == BiperWeights(phase_deviation=1.5, wave="triangle")


def test_the_normalization_of_inputs_is_that_of_the_published_method_until_inputs_are_chosen() -> None:
    for table, normalize in (
        ("bi-real", False),
        ({"name": "bi-real", "inputs": {"normalize": True}}, True),
        ({"name": "bi-real", "normalize": True}, True),
        ({"name": "bi-real", "inputs": "approx-sign"}, True),
        ({"name": "bi-real", "weights": "recu"}, False),
        ({"name": "recu"}, True),
        ({"normalize": False}, False),
    ):
        assert read_method(table).inputs == ApproxSignInputs(normalize=normalize), table


TABLES = (
    *METHODS,
    {"name": "ir-net", "t_end": 3.0},
    {"name": "ir-net", "inputs": {"t_end": 3.0}},
    {"weights": "adabin", "inputs": {"name": "ir-net", "t_start": 0.2}, "t_end": 4.0},
    {
        "weights": "biper",
        "phase_deviation": 1.5,
        "inputs": "rsign",
        "activation": "rprelu",
        "learning_rate_factor": 3.0,
    },
    {"weights": "reste", "inputs": "reste", "window": 2.0, "activation": "prelu"},
)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_a_method_reads_back_from_its_table_and_from_toml(table: str | dict[str, Any], tmp_path: Path) -> None:
    method = read_method(table)
    assert read_method(method.model_dump()) == method
    assert read_method(json.loads(json.dumps(method.model_dump(mode="json")))) == method
    recipe = load_recipe("digits").model_copy(update={"method": method})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml").method == method
    assert Recipe(**recipe.model_dump()) == recipe
    if isinstance(table, str):
        assert (method.name, method.model_dump()["name"]) == (table, table)


def test_options_of_two_choices_that_differ_are_tables() -> None:
    both = read_method({"name": "ir-net", "t_end": 3.0})
    assert both.weights.t_end == both.inputs.t_end == both.model_dump()["t_end"] == 3.0
    one = read_method({"name": "ir-net", "inputs": {"t_end": 3.0}})
    assert (one.weights.t_end, one.inputs.t_end) == (10.0, 3.0)
    assert one.model_dump()["inputs"]["t_end"] == 3.0


def test_every_method_and_option_is_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "methods.md").read_text(encoding="utf-8")
    published = page.split("\n## Published methods")[1].split("\n#")[0]
    for name, preset in METHODS.items():
        row = rf"^\| `{name}` \| `{preset.weights}` \| `{preset.inputs}`.* \| `{preset.activation}` \|"
        assert len(re.findall(row, published, re.MULTILINE)) == 1, name
    for key, kinds in CHOICES.items():
        section = page.split(f"### `{key}`")[1].split("\n#")[0]
        for name, kind in kinds.items():
            (row,) = re.findall(rf"^\| `{name}` \|.*$", section, re.MULTILINE)
            for option, field in kind.model_fields.items():
                default = "" if field.default is None else f" = {json.dumps(field.default)}"
                assert option == "name" or f"`{option}{default}`" in (page if name == "biper" else row), (name, option)


def test_one_stage_methods_train_the_epochs_of_both_stages_with_the_settings_of_the_first() -> None:
    recipe = load_recipe("digits", ["method.name=bnn"])
    assert recipe.stages == (recipe.stage1.model_copy(update={"epochs": 60}),)
    assert len(load_recipe("digits").stages) == 2
    assert [stage.epochs for stage in load_recipe("digits", ["method.relaxed_stage=false"]).stages] == [60]
