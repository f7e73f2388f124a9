"""Comparing methods with the library: variants, runs that diverge, and wrong arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biper import load_recipe
from biper.errors import RecipeError
from biper.methods.inputs import INPUTS
from biper.methods.settings import Method, read_method
from biper.methods.weights import BiperWeights
from biper.report.methods import compare_methods
from biper.report.variants import Variant, grid_of_choices, read_factors

SMALL = ["stage1.epochs=1", "stage2.epochs=1"]


def test_variants_and_divergence(tmp_path: Path) -> None:
    """A variant that diverges has a row that says so, and the other rows are complete."""
    texts = ["slow model.frequency=5", "wild stage1.learning_rate=1e30 method.name=bnn"]
    comparison = compare_methods(
        "digits", [Variant.read(text) for text in texts], tmp_path, overrides=SMALL, device="cpu"
    )
    slow, wild = comparison.rows
    assert slow.settings == ("model.frequency=5",)
    assert slow.grid[0].factor == 1
    assert len(slow.accuracies) == 1
    assert (wild.mean, wild.spread, wild.packed_bytes, wild.accuracies) == (None, None, None, ())
    assert "| wild | 1 | 2 | diverged |" in (tmp_path / "compare.md").read_text()
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [row["mean"] for row in rows] == [slow.mean, None]


def test_held_out_images_choose_the_factor_where_there_are_any(tmp_path: Path) -> None:
    overrides = [*SMALL, "data.selection=held-out"]
    comparison = compare_methods(
        "digits", [Variant.of_method("ir-net")], tmp_path, overrides=overrides, factors=[0.01, 10.0], device="cpu"
    )
    (row,) = comparison.rows
    scores = {tried.factor: tried.held_out_accuracy for tried in row.grid}
    assert scores[10.0] > scores[0.01]
    assert row.factor == 10.0
    assert comparison.chosen_by == "held-out accuracy"


@pytest.mark.parametrize(
    ("variants", "options", "message"),
    [
        ([], {}, "a comparison needs variants with labels that differ, got none"),
        (["bnn", "bnn"], {}, "labels that differ, got bnn, bnn"),
        (["bnn"], {"overrides": ["method.name=recu"]}, "it cannot set the method: set it in one of variants=..."),
        (["b method.tau=1"], {}, "unknown key 'method.tau'"),
        (["a/b c=1"], {}, "variants=... expects labels of letters"),
        (["label"], {}, "no method 'label'; known: biper"),
    ],
)
def test_wrong_comparisons_train_nothing(
    variants: list[str], options: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    def ask() -> None:
        chosen = [Variant.read(text) if " " in text else Variant.of_method(text) for text in variants]
        compare_methods("digits", chosen, tmp_path / "out", **options)

    with pytest.raises(RecipeError) as caught:
        ask()
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_factors_are_positive_and_differ() -> None:
    assert read_factors(None) == []
    assert read_factors("1,10, 0.5") == [1.0, 10.0, 0.5]
    for wrong in ("0", "1,1", "1,x", "inf", "-3"):
        with pytest.raises(RecipeError, match=r"factors=\.\.\. expects positive numbers that differ"):
            read_factors(wrong)


def labels_of(variants: list[Variant]) -> list[str]:
    return [variant.label for variant in variants]


def test_a_grid_has_every_combination_and_takes_the_other_choices_from_the_recipe() -> None:
    method = read_method({"inputs": {"name": "ir-net", "t_end": 5.0}, "activation": "prelu"})
    grid = grid_of_choices(method, weights="biper:phase_deviation=1.5:wave=triangle,recu", activation="network, rprelu")
    assert labels_of(grid) == [
        "biper-phase_deviation-1.5-wave-triangle+network",
        "biper-phase_deviation-1.5-wave-triangle+rprelu",
        "recu+network",
        "recu+rprelu",
    ]
    first, *_, last = (load_recipe("digits", variant.settings).method for variant in grid)
    assert (first.weights, first.inputs) == (BiperWeights(phase_deviation=1.5, wave="triangle"), method.inputs)
    assert (last.name, last.weights.name, last.inputs) == ("recu+ir-net+rprelu", "recu", method.inputs)
    assert labels_of(grid_of_choices(method, inputs="all")) == list(INPUTS)
    assert len(grid_of_choices(method, weights="all", inputs="all", activation="all")) == 9 * 7 * 4
    assert grid_of_choices(method) == []


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"weights": "biper,recue"}, "method.weights: there is no 'recue'; did you mean 'recu'? Known: biper, ste"),
        ({"weights": "biper,,recu"}, "weights=... expects names with options after them, such as biper or NAME:OPTION"),
        ({"inputs": ""}, "inputs=... expects names"),
        ({"inputs": "rsign:slope"}, "inputs=... expects names"),
        ({"activation": "relu"}, "method.activation: there is no 'relu'; did you mean 'prelu'? Known: network, "),
        ({"weights": "biper:waves=sine"}, "unknown key 'method.weights.waves'; did you mean 'method.weights.wave'?"),
        ({"weights": "recu:tau_end=2"}, "method.tau_end: must be less than 1, got 2"),
        ({"weights": "biper:phase_mean=kept"}, "method: phase_mean is about a standardized phase: set phase_deviation"),
    ],
)
def test_wrong_grids_are_one_line(grid: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        grid_of_choices(Method(), **grid)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_is_trained(tmp_path: Path) -> None:
    grid = grid_of_choices(Method(), weights="biper:phase_deviation=1.5,bi-real", inputs="rsign")
    comparison = compare_methods("digits", grid, tmp_path, overrides=SMALL, device="cpu")
    assert [row.method for row in comparison.rows] == ["biper+rsign+network", "bi-real+rsign+network"]
    assert [row.stages for row in comparison.rows] == [2, 1]
    for row in comparison.rows:
        assert len(row.accuracies) == 1
        assert row.packed_bytes is not None
        method = load_recipe(tmp_path / row.label / "factor-1-seed-0" / "recipe.toml").method
        assert load_recipe("digits", row.settings).method == method
