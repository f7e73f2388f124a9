"""How runs start: nothing is left of a start that failed, and a resumed run is the same run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Biper, biper_command, error_line

from biper import load_recipe, train
from biper.errors import BiperError, CheckpointError, DataError, ModelError, RecipeError
from biper.runs.folder import RunFolder
from biper.runs.lock import RunLock

SHORT = ["stage1.epochs=1", "stage2.epochs=1"]


@pytest.mark.parametrize(
    ("recipe", "changes", "options", "error"),
    [
        ("cifar10-resnet20-two-stage-short", [], {"data_dir": "nowhere"}, DataError),
        ("digits", ["data.batch_size=100000"], {}, DataError),
        ("digits", ["data.image_size=9"], {}, DataError),
        ("digits", ["model.name=resnet_of_nobody"], {}, ModelError),
        ("digits", [], {"start_from": "nowhere"}, CheckpointError),
        ("digits", [], {"start_from": __file__}, CheckpointError),
        ("digits", ["teacher.epochs=2", "teacher.learning_rate=0.1"], {"start_from": "nowhere"}, CheckpointError),
    ],
)
def test_a_failed_start_leaves_no_folder(
    recipe: str, changes: list[str], options: dict[str, str], error: type[BiperError], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "run"
    options = {key: str(tmp_path / value) for key, value in options.items()}
    with pytest.raises(error):
        train(load_recipe(recipe, changes), out, device="cpu", workers=0, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_start_changes_nothing_in_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError):
        train(load_recipe("digits", ["data.batch_size=100000"]), tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_without_a_checkpoint_is_free_for_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(load_recipe("digits", ["seed=7"]), resume=False)
    folder.metrics_file.write_text("half a li")
    (tmp_path / ".recipe.toml.4194304.tmp").write_text("left by a killed process")  # no process has this number
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match="a run of another recipe: seed was 7, is now 0"):
        train(load_recipe("digits", SHORT), tmp_path, device="cpu", resume=True)
    train(load_recipe("digits", SHORT), tmp_path, device="cpu")
    assert load_recipe(folder.recipe_file).seed == 0
    assert len(folder.read_metrics()) == 2
    assert (tmp_path / "notes.txt").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(RecipeError, match="already holds a run"):
        folder.check(load_recipe("digits"), resume=False)


def test_a_recipe_that_was_written_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(load_recipe("digits"), resume=False)
    text = "# my notes\n" + folder.recipe_file.read_text()
    folder.recipe_file.write_text(text)
    with pytest.raises(RecipeError, match="was written by hand and would be overwritten: seed is 0 there, and 1 in"):
        folder.create(load_recipe("digits", ["seed=1"]), resume=False)
    folder.create(load_recipe("digits"), resume=False)
    assert folder.recipe_file.read_text() == text


def test_a_resumed_run_has_its_precision_its_compilation_and_its_metrics(tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path), load_recipe("digits", SHORT)
    train(recipe, tmp_path, device="cpu", precision="bfloat16")
    rows, newest = folder.read_metrics(), folder.checkpoints.newest_first()[0]
    assert json.loads(folder.environment_file.read_text())["compiled"] is False
    folder.summary_file.unlink()
    for options, message in (
        ({}, 'was trained with precision="bfloat16", not with precision="float32": resume with the same'),
        ({"precision": "bfloat16", "compiled": True}, "was trained without compiled=True: leave it out"),
        ({"precision": "bfloat16", "start_from": newest}, "began from random weights, not from .*: leave start_from="),
    ):
        for record in (folder.environment_file, newest):
            with pytest.raises(RecipeError, match=f"{record.parent}.*{message}"):
                train(recipe, tmp_path, device="cpu", resume=True, **options)
            if record == newest or "start_from" in options:
                break
            folder.environment_file.rename(tmp_path / "aside.json")  # the checkpoint knows it too
        if (tmp_path / "aside.json").exists():
            (tmp_path / "aside.json").rename(folder.environment_file)
    folder.metrics_file.unlink()
    train(recipe, tmp_path, device="cpu", resume=True, precision="bfloat16")
    assert folder.read_metrics() == rows


def test_a_run_that_never_saved_does_not_forget_the_weights_that_it_was_to_begin_with(tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), load_recipe("digits", SHORT)
    folder.create(recipe, resume=False)
    folder.environment_file.write_text('{"precision": "float32", "compiled": false, "start_from": "/first"}')
    with pytest.raises(RecipeError, match=r"began from /first, not from random weights: give the same start_from="):
        train(recipe, folder.path, device="cpu", resume=True)


def test_a_second_process_in_a_run_folder_is_refused(biper: Biper, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = subprocess.Popen(biper_command("train", "digits", "--out", str(out)), stdout=subprocess.DEVNULL)
    try:
        while not (out / "environment.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        for more in ((), ("--resume",)):
            result = biper("train", "digits", "--out", str(out), *more, expect=1)
            assert f"run is in use, process {first.pid} trains there: wait until it ends" in error_line(result)
            assert "with --out" in error_line(result)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    RunLock(out).acquire()
