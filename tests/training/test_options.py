"""The options of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from biper import load_recipe, train
from biper.errors import ModelError
from biper.report.methods import Variant, compare_methods
from biper.training.options import RunOptions


def test_single_options_are_changed() -> None:
    options = RunOptions(device="cpu", workers=2)
    assert options.changed({"resume": True, "workers": 0}, "train") == RunOptions(device="cpu", workers=0, resume=True)
    assert options == RunOptions(device="cpu", workers=2)


def test_an_unknown_option_is_a_type_error_that_names_it(tmp_path: Path) -> None:
    message = r"{}\(\) got an unknown option 'devise'; the options are data_dir, device, precision, "
    with pytest.raises(TypeError, match=message.format("train")):
        train(load_recipe("digits"), tmp_path / "run", devise="cpu")
    with pytest.raises(TypeError, match=message.format("compare_methods")):
        compare_methods("digits", [Variant.of_method("bnn")], tmp_path / "run", devise="cpu")
    assert not (tmp_path / "run").exists()


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match="precision='int8': expected one of float32, float64, bfloat16, float16"):
        RunOptions(precision="int8")


def test_a_run_takes_its_options_as_an_object(tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=1", "stage2.epochs=1"])
    summary = train(recipe, tmp_path, options=RunOptions(device="cpu"))
    assert train(recipe, tmp_path, options=RunOptions(device="cpu"), resume=True) == summary
