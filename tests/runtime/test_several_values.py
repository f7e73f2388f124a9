"""Packed models with several results, further inputs and results of any shape: calls, predictions, errors, commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.random_programs import array_operation
from typer.testing import CliRunner

from biper.cli.app import app
from biper.errors import DataError
from biper.runtime import Model, model
from biper.runtime.bench import bench
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program

OPERATIONS = (
    array_operation("constant", [], "half", {"value": np.full((), 0.5, np.float32)}),
    array_operation("reduce", ["image"], "mean", function="mean", axes=[1, 2], keep=True),
    array_operation("binary", ["image", "level"], "shifted", function="add"),
    array_operation("reduce", ["shifted"], "rows", function="sum", axes=[2], keep=False),
    array_operation("matmul", ["rows", "rows"], "square"),
)


def program(**changes: object) -> Program:
    fields = {
        "input_shape": (3, 3, 5), "mean": (0.0,) * 3, "std": (1.0,) * 3, "classes": (), "output": "mean",
        "operations": OPERATIONS, "outputs": {"classes": "mean", "map": "square", "level": "half"},
        "inputs": {"level": (3, 1, 1)},
    } | changes  # fmt: skip
    return read_program(write_program(Program(**fields)))


@pytest.fixture(params=["engine", "reference"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Model:
    if request.param == "reference":
        monkeypatch.setattr(model, "engine_is_built", lambda: False)
    return Model(program())


def test_several_results_by_name(loaded: Model) -> None:
    random = np.random.Generator(np.random.PCG64(0))
    count = model.BATCH + 3
    images, level = random.standard_normal((count, 3, 3, 5)), random.standard_normal((count, 3, 1, 1))
    results = loaded(images, {"level": level})
    assert isinstance(results, dict)
    assert list(results) == ["classes", "map", "level"]
    np.testing.assert_allclose(results["classes"], images.mean((2, 3)), rtol=1e-4, atol=1e-5)
    rows = (images + level).sum(3)
    np.testing.assert_allclose(results["map"], rows @ rows, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(results["level"], np.full(count, 0.5))
    by_keyword = loaded(images, level=level)
    assert isinstance(by_keyword, dict)
    np.testing.assert_array_equal(by_keyword["map"], results["map"])
    assert loaded.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({}, r"the model takes the inputs \['level'\] beside its images, got \[\]"),
        ({"label": np.zeros((2, 3, 1, 1))}, r"takes the inputs \['level'\] beside its images, got \['label'\]"),
        ({"level": np.zeros((2, 3))}, r"expects floats \(2, 3, 1, 1\) as its input 'level', got float64 \(2, 3\)"),
        ({"level": np.zeros((2, 3, 1, 1), int)}, r"as its input 'level', got int64 \(2, 3, 1, 1\)"),
        ({"level": np.full((2, 3, 1, 1), np.nan)}, "got NaN or infinity in level of image 0 of 2"),
    ],
)
def test_errors_name_the_input(loaded: Model, others: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(np.zeros((2, 3, 3, 5)), others)


def test_results_of_any_shape() -> None:
    """(N, outputs) for an image of one pixel, (N, ...) for everything else, also where nothing is computed."""
    alone = {"inputs": {}, "outputs": {}, "operations": OPERATIONS[:2]}
    images = np.ones((2, 3, 3, 5))
    for output, shape in (("mean", (2, 3)), ("half", (2,)), ("image", (2, 3, 3, 5))):
        results = Model(program(**alone, output=output))(images)
        assert isinstance(results, np.ndarray)
        assert results.shape == shape


def test_numbers_are_images_of_one_pixel() -> None:
    numbers = {"input_shape": (3, 1, 1), "operations": OPERATIONS[:2], "outputs": {}, "inputs": {}}
    packed = Model(program(**numbers, output="image"))
    rows = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(packed(rows), rows)
    with pytest.raises(DataError, match=r"got float64 \(2, 4\)"):
        packed(np.zeros((2, 4)))


def test_predictions_are_of_the_first_result() -> None:
    outputs = {"classes": "mean", "level": "half"}
    packed = Model(program(inputs={}, outputs=outputs, operations=OPERATIONS[:2], classes=("a", "b", "c")))
    images = np.zeros((1, 3, 5, 3), np.uint8)
    images[..., 1] = 255
    assert packed.predict(images)[0][0].name == "b"
    with pytest.raises(DataError, match="takes the inputs"):
        Model(program()).predict(images)


def test_bench_and_inspect(tmp_path: Path) -> None:
    file = tmp_path / "several.biper"
    file.write_bytes(write_program(program()))
    report = bench(read_program(file), seconds=0.01)
    assert [row.operation for row in report.operations] == [op.operation for op in OPERATIONS]
    assert report.operations[0].seconds == 0.0  # a constant
    assert report.operations[4].real_macs == 27
    for command in (["inspect"], ["bench", "--profile", "--seconds", "0.01"]):
        shown = CliRunner().invoke(app, [command[0], str(file), *command[1:]])
        assert shown.exit_code == 0, shown.output
        assert "matmul" in shown.output
    described = json.loads(CliRunner().invoke(app, ["inspect", str(file), "--json"]).output)
    assert described["inputs"] == {"level": [3, 1, 1]}
    assert described["outputs"] == {"classes": [3, 1, 1], "map": [3, 3], "level": []}
