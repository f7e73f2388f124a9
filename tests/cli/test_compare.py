"""Comparing methods with the command: a real process is stopped, repeated, and extended by another seed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Biper, biper_command, error_line

from biper.io.tensors import load_tensors
from biper.runtime import Model

SMALL = ["--scale-epochs", "0.02", "--threads", "1", "--device", "cpu"]
"""Options that leave one epoch of each stage of the digits recipe."""


@pytest.mark.slow
def test_methods_are_compared_stopped_and_extended(biper: Biper, tmp_path: Path) -> None:
    arguments = ["compare", "digits", "--methods", "dorefa,biper", "--learning-rates", "1,10", *SMALL]
    process = subprocess.Popen(
        biper_command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    runs = tmp_path / "runs/compare-digits"
    while not (runs / "dorefa/factor-10-seed-0/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("error: stopped in runs/compare-digits/dorefa/factor-10-seed-0, everything is saved")
    assert len(errors.splitlines()) == 1
    first = runs / "dorefa/factor-1-seed-0/summary.json"
    finished = first.stat().st_mtime_ns

    text = biper(*arguments, "--seeds", "2").stdout
    assert first.stat().st_mtime_ns == finished, "a finished run was repeated"
    assert "training loss of the first seed chose the one with the star" in text
    document = json.loads((runs / "compare.json").read_text())
    assert (runs / "compare.png").read_bytes().startswith(b"\x89PNG")
    dorefa, wave = document["rows"]
    assert [(row["label"], row["stages"], row["epochs"]) for row in document["rows"]] == [
        ("dorefa", 1, 2),
        ("biper", 2, 2),
    ]
    for row in document["rows"]:
        assert [tried["factor"] for tried in row["grid"]] == [1, 10]
        best = min(row["grid"], key=lambda tried: tried["train_loss"])
        assert row["factor"] == best["factor"]
        folders = [runs / row["label"] / f"factor-{row['factor']:g}-seed-{seed}" for seed in (0, 1)]
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        last = "stage2" if row["label"] == "biper" else "stage1"
        assert row["accuracies"] == [summary[last]["test_accuracy"] for summary in summaries]
        assert row["mean"] == pytest.approx(sum(row["accuracies"]) / 2)
        assert row["spread"] == pytest.approx(abs(row["accuracies"][0] - row["accuracies"][1]) / 2**0.5)
        assert row["packed_bytes"] == (folders[0] / "model.biper").stat().st_size
        assert 0 < row["relative_error"] < 1
        assert row["seconds_per_epoch"] == pytest.approx(sum(summary["seconds"] for summary in summaries) / 4)
        assert len({summary["recipe"]["seed"] for summary in summaries}) == 2
        assert f"| {row['label']} | {row['stages']} | 2 | {row['mean']:.2%} |" in (runs / "compare.md").read_text()
    assert dorefa["packed_bytes"] > wave["packed_bytes"]  # borders of inputs of 0 and 1 need more

    plain = ["train", "digits", "--out", "alone", *SMALL, "--set", "method.name=dorefa"]
    biper(*plain, "--set", "method.learning_rate_factor=10.0")
    ours, theirs = (
        load_tensors(path / "model.safetensors")[0] for path in (runs / "dorefa/factor-10-seed-0", tmp_path / "alone")
    )
    assert all((ours[name] == theirs[name]).all() for name in theirs), "a run of a comparison is not that run alone"
    assert Model.load(tmp_path / "alone/model.biper").classes[0] == "0"


def test_a_wrong_comparison_is_one_line(biper: Biper, tmp_path: Path) -> None:
    line = error_line(biper("compare", "digits", "--methods", "biper,recue", expect=1))
    assert "no method 'recue'; did you mean 'recu'? Known: biper, bnn, " in line
    assert not (tmp_path / "runs").exists()


def test_a_wrong_grid_names_the_flag(biper: Biper) -> None:
    line = error_line(biper("compare", "digits", "--weights", "biper,", expect=1))
    assert "--weights expects names with options after them" in line
