"""Exporting over files that are there: trained weights stay, and class names are kept or their loss is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.networks import trained_like
from typer.testing import CliRunner

from biper.cli.app import app
from biper.errors import ExportError
from biper.models.saved import ModelInfo, save_model
from biper.runtime.model import Model
from biper.targets.deploy import OpenedProgram, deploy
from biper.targets.packed.export import export
from biper.targets.packed.saved import export_saved

NAMES = tuple("abcdefghij")
INFO = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.5,), (0.25,), NAMES)


def saved(path: Path, classes: tuple[str, ...] = NAMES) -> Path:
    save_model(path, trained_like("digits_cnn", "digits"), replace(INFO, dataset="digits", classes=classes))
    return path


def test_trained_weights_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any command, under any name: the model itself, another one of the run, and the recipe."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.safetensors", "stage1.safetensors"):
        saved(run / name)
    (run / "recipe.toml").write_text("seed = 1\n")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for name, reason in (
        ("model.safetensors", "is what the new file is made from, and would be lost: name another file with out="),
        ("stage1.safetensors", "holds a 'biper model 1', which would be lost"),
        ("recipe.toml", "is there, and is no .biper file"),
    ):
        with pytest.raises(ExportError, match=reason):
            export_saved(run / "model.safetensors", run / name)
        with pytest.raises(ExportError, match=r"would be lost|is there"):
            export(torch.nn.Linear(2, 2), run / name, torch.zeros(2, 2))
    monkeypatch.chdir(tmp_path)
    for line, reason in (
        (
            ["export", "run", "--out", "run/model.safetensors"],
            "is what the new file is made from, and would be lost: name",
        ),
        (["analyze", "run", "--out", "run/model.safetensors"], "holds a 'biper model 1', which would be lost"),
        (["export", "run", "--format", "c", "--flash", "abc"], "'abc' is no size"),
    ):
        with pytest.raises(ExportError, match=reason):
            CliRunner().invoke(app, line, catch_exceptions=False)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_other_formats_do_not_overwrite_their_model_either(tmp_path: Path) -> None:
    packed = tmp_path / "model.biper"
    export_saved(saved(tmp_path / "model.safetensors"), packed)
    program, content = Model.load(packed).program, packed.read_bytes()
    shutil.copy(packed, tmp_path / "model.h")
    shutil.copy(packed, tmp_path / "model.html")
    for form, reason in (("c", "model.h is what"), ("html", "holds a 'biper program 2'")):
        source = tmp_path / "model.h" if form == "c" else packed
        with pytest.raises(ExportError, match=reason):
            deploy(OpenedProgram(program, "model", source), form, tmp_path / "model")
    assert (tmp_path / "model.h").read_bytes() == (tmp_path / "model.html").read_bytes() == content
    assert not (tmp_path / "model.c").exists()


def test_class_names_are_kept_or_their_loss_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "load_dataset", no_data)
    out = tmp_path / "model.biper"
    _, what = export_saved(saved(tmp_path / "unnamed.safetensors", ()), out)
    assert what == "random images; without class names"
    assert Model.load(out).program.classes == ()
    _, what = export_saved(saved(tmp_path / "named.safetensors"), out)
    assert what == "random images"
    _, what = export_saved(tmp_path / "unnamed.safetensors", out)
    assert what == "random images; class names kept from the file before"
    assert Model.load(out).classes == NAMES
    model, x = trained_like("digits_cnn", "digits"), torch.randn(4, 1, 8, 8)
    with pytest.warns(UserWarning, match=r"that had: class names, normalization, preprocessing"):
        export(model, out, x)
    export(model, out, x)


def no_data(*_arguments: object, **_options: object) -> None:
    from biper.errors import DataError

    raise DataError("no data here")
