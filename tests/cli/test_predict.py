"""Prediction from the command line: every kind of input, and pictures that cannot be read. None of it needs torch."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import Biper, biper_command
from support.pictures import encoded, picture

from biper.cli.paths import load_packed, model_file
from biper.cli.pictures import predict_all
from biper.errors import ModelError
from biper.runtime import Model, load_pretrained

MODEL = "cifar10-resnet20"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_pretrained(MODEL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures, arrays, and files that are none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep/er").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.jpg", "deep/c.PNG", "deep/er/d.jpg")):
        picture(number).save(tmp_path / name)
    (tmp_path / "deep/notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "many.npy", np.zeros((3, 32, 32, 3), np.uint8))
    np.save(tmp_path / "one.npy", np.zeros((32, 32, 3), np.uint8))
    return tmp_path


def test_files_folders_patterns_and_arrays_are_pictures(model: Model, folder: Path) -> None:
    answers = list(predict_all(model, ["b.png", "deep", "*.jpg", "**/*.jpg", "many.npy", "one.npy"], 2))
    assert [answer.name for answer in answers] == [
        *("b.png", "deep/c.PNG", "deep/er/d.jpg", "a.jpg", "a.jpg", "deep/er/d.jpg"),
        *("many.npy[0]", "many.npy[1]", "many.npy[2]", "one.npy[0]"),
    ]
    assert not any(answer.error for answer in answers)
    assert answers[0].found == model.predict(["b.png"], 2)[0]
    assert answers[-1].found == model.predict(np.zeros((1, 32, 32, 3), np.uint8), 2)[0]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(model: Model, folder: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:100])
    (folder / "cut.npy").write_bytes(b"\x93NUMPY")
    os.mkfifo(folder / "pipe.png")
    wrong = {
        "cut.png": "cannot read the image cut.png",
        "cut.npy": "no array of images: ",
        "pipe.png": "it is a pipe, a device",
        "none.png": "No such file",
        "none*.png": "no file matches the pattern",
        "empty": "the folder holds no picture",
    }
    answers = {answer.name: answer for answer in predict_all(model, [*wrong, "b.png"], 1)}
    assert answers.pop("b.png").found == model.predict(["b.png"])[0]
    assert answers.keys() == wrong.keys()
    for name, reason in wrong.items():
        assert reason in answers[name].error
        assert answers[name].found == []


def test_an_image_that_is_not_finite_does_not_stop_the_others(model: Model, folder: Path) -> None:
    images = np.zeros((5, 3, 32, 32), np.float32)
    images[2, 0, 0, 0] = np.nan
    np.save("nan.npy", images)
    answers = list(predict_all(model, ["nan.npy", "one.npy", "b.png"], 1))
    assert [answer.name for answer in answers if answer.error] == ["nan.npy[2]"]
    assert "NaN or infinity" in answers[2].error
    assert answers[6].found == model.predict(["b.png"])[0]


def test_the_command_ends_non_zero_and_prints_a_list(biper: Biper, folder: Path) -> None:
    (folder / "cut.png").write_bytes(b"no picture")
    result = biper("predict", MODEL, "b.png", "cut.png", "b.png", "--json", "--top-k", "1", expect=1)
    rows = json.loads(result.stdout)
    assert [row["image"] for row in rows] == ["b.png", "b.png"], "a picture that is named twice is there twice"
    assert rows[0]["classes"] == rows[1]["classes"]
    assert rows[0]["classes"][0].keys() == {"name", "probability"}
    warning, error = result.stderr.strip().splitlines()
    assert warning.startswith("warning: cannot read the image cut.png: ")
    assert error == "error: 1 of 3 images cannot be read"
    result = biper("predict", MODEL, "cut.png", "--json", expect=1)
    assert json.loads(result.stdout) == []
    command = biper_command("predict", MODEL, "-", "--json")
    result = subprocess.run(command, input=encoded(picture(0), "PNG"), capture_output=True, cwd=folder)
    assert [row["image"] for row in json.loads(result.stdout)] == ["-"]
    result = subprocess.run(command, input=b"no picture", capture_output=True, cwd=folder, text=False)
    assert result.returncode == 1
    assert b"-: cannot read the image: no picture of a format" in result.stderr


def test_an_array_of_another_shape_is_one_line_for_all_of_its_images(biper: Biper, folder: Path) -> None:
    np.save(folder / "small.npy", np.zeros((2, 8, 8, 3), np.uint8))
    warning, error = biper("predict", MODEL, "small.npy", expect=1).stderr.strip().splitlines()
    assert warning.startswith("warning: small.npy: the model expects uint8 images (N, 32, 32, 3)")
    assert error == "error: 1 of 1 images cannot be read"


def test_all_verbs_agree_on_what_a_model_is(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = model_file(MODEL)
    assert packed.name == f"{MODEL}.biper"
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelError, match=r"run holds no model\.safetensors"):
        load_packed("run")
    (tmp_path / "run/model.biper").write_bytes(packed.read_bytes())
    zeros = np.zeros((1, 32, 32, 3), np.uint8)
    for word in (MODEL, "run", "run/model.biper", str(packed)):
        assert np.array_equal(load_packed(word)(zeros), model(zeros))
    for word in ("nothing", "cifar10-resnet"):
        with pytest.raises(ModelError, match=f"no file or folder {word}, and no pretrained model '{word}' comes with"):
            load_packed(word)
    (tmp_path / MODEL).mkdir()
    with pytest.raises(ModelError, match=r"cifar10-resnet20 holds no model\.safetensors"):
        load_packed(MODEL)


def test_a_model_says_what_it_is(model: Model) -> None:
    text = repr(model)
    assert text.startswith("<biper.Model: 3 x 32 x 32 -> 10 classes, ")
    assert text.endswith(" bytes of weights, 1 thread(s)>")


@pytest.mark.parametrize("verb", [["recipes"], ["inspect", MODEL]])
def test_no_name_is_cut_in_a_narrow_terminal(verb: list[str]) -> None:
    """On a terminal of 50 columns every character of every name is there, over several lines if need be."""
    code = (
        "import sys, rich.console, biper.cli.tables as t\n"
        "t.console = rich.console.Console(width=50, soft_wrap=True)\n"
        "from biper.cli.app import app\n"
        f"app({verb!r}, standalone_mode=False)\n"
    )
    run = subprocess.run([biper_command()[0], "-c", code], capture_output=True, text=True, check=True)
    assert "…" not in run.stdout
    table = [line for line in run.stdout.splitlines() if "; images" not in line]  # the line below it wraps by itself
    assert len(table) > 10
    assert all(len(line) <= 50 for line in table)


def test_the_environment_says_how_many_threads_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIPER_THREADS", "2")
    assert load_packed("digits-cnn").threads == 2
    monkeypatch.setenv("BIPER_THREADS", "two")
    with pytest.raises(ModelError, match="BIPER_THREADS expects an integer from 1 to 1024, got 'two'"):
        load_packed("digits-cnn")
