"""Files that a released version wrote are read by this version, with the same numbers."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from biper import analyze_run, evaluate, load_dataset, load_model, load_recipe, train
from biper.report.analysis import RunAnalysis
from biper.runtime import Model

RELEASED = Path(__file__).resolve().parents[1] / "data" / "released"
FINISHED, STOPPED = RELEASED / "0.1" / "finished", RELEASED / "0.1" / "stopped"

OUTPUTS = (  # of version 0.1, for the first image of `pixels`
    (4.65184, -5.57742, -0.65290, 2.51959, -5.03146, 2.08181, -3.29688, 2.65000, 1.24363, 4.01091),
    (5.77453, -7.20961, -4.13849, -3.78628, 0.55391, 2.94951, 1.79395, -3.81112, 5.50495, 2.15068),
)


def test_a_packed_file_of_version_0_1_gives_the_same_outputs() -> None:
    pixels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1) % 17 * 15
    model = Model.load(FINISHED / "model.biper")
    np.testing.assert_allclose(model(pixels)[:2], OUTPUTS, atol=2e-5)
    assert model.classes == tuple("0123456789")


def test_a_saved_model_of_version_0_1_has_the_same_weights_and_accuracy() -> None:
    model, info = load_model(FINISHED / "model.safetensors")
    content = b"".join(value.contiguous().numpy().tobytes() for value in model.state_dict().values())
    assert hashlib.sha256(content).hexdigest() == "04615df7d0d9792f77b36d4d25fc755ec2bc48d94ac10e77545039a56c6f92cf"
    scores = evaluate(model, load_dataset("digits").split("test"), info.mean, info.std)
    assert (scores.correct, scores.images) == (333, 360)


def test_a_finished_run_of_version_0_1_is_not_trained_again(tmp_path: Path) -> None:
    shutil.copytree(FINISHED, tmp_path / "run")
    summary = train(load_recipe(FINISHED / "recipe.toml"), tmp_path / "run", resume=True)
    assert summary["stage2"]["test_accuracy"] == 0.925
    assert (tmp_path / "run" / "summary.json").read_bytes() == (FINISHED / "summary.json").read_bytes()


def test_a_checkpoint_of_version_0_1_is_resumed(tmp_path: Path) -> None:
    shutil.copytree(STOPPED, tmp_path / "run")
    summary = train(load_recipe(STOPPED / "recipe.toml"), tmp_path / "run", resume=True)
    assert summary.stages[0].epochs == 6
    assert summary.stages[0].score.accuracy > 0.85
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert metrics[:3] == (STOPPED / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(metrics) == 6


@pytest.mark.parametrize(("folder", "epochs"), [(FINISHED, 6), (STOPPED, 3)])
def test_a_run_of_version_0_1_is_analyzed(folder: Path, epochs: int) -> None:
    found: RunAnalysis = analyze_run(folder, images=64, bench_seconds=0.01)
    assert found.complete == (folder is FINISHED)
    assert len(found.history) == epochs
    assert found.packed is not None, found.notes
    assert len(found.weights) == 4
