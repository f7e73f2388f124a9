"""Teachers: trained by the run, saved, or packed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from biper import load_model, load_recipe, train
from biper.errors import BiperError, CheckpointError, ModelError, RecipeError, TrainingInterrupted
from biper.models.saved import ModelInfo, save_model
from biper.recipes.schema import TeacherRecipe
from biper.runs.folder import RunFolder
from biper.runtime import Model, load_pretrained
from biper.runtime.pretrained import pretrained_file
from biper.targets.packed.saved import export_saved
from biper.training.teacher import PackedNetwork, Teacher

SHORT = ["stage1.epochs=2", "stage2.epochs=1"]


def test_a_run_with_a_teacher_trains_it_first(tmp_path: Path) -> None:
    taught = [*SHORT, "teacher.epochs=4", "teacher.learning_rate=0.1", "teacher.share=1.0"]
    summary = train(load_recipe("digits", taught), tmp_path / "taught", device="cpu")
    teacher = RunFolder(tmp_path / "taught" / "teacher").read_summary()
    assert teacher is not None
    assert teacher.recipe["model"]["bits"] == "W32A32"
    assert summary.teacher is not None
    assert summary.teacher.stage == teacher.final
    assert teacher.final.score.accuracy > 0.5
    assert summary.seconds > summary.teacher.seconds == teacher.seconds
    plain = train(load_recipe("digits", [*taught, "teacher.share=0.0"]), tmp_path / "plain", device="cpu")
    assert plain.teacher is None
    assert not (tmp_path / "plain" / "teacher").exists()
    assert plain.stages[0].score.loss != summary.stages[0].score.loss
    other = load_recipe("digits", [*taught, "teacher.temperature=2.0"])
    with pytest.raises(RecipeError, match=r"another recipe: teacher\.temperature was 4\.0, is now 2\.0"):
        train(other, tmp_path / "taught", device="cpu", resume=True)
    with pytest.raises(RecipeError, match=r"another recipe: teacher was \{.*, is now None"):
        train(load_recipe("digits", SHORT), tmp_path / "taught", device="cpu", resume=True)


def test_a_saved_network_of_other_bits_teaches_and_must_not_change(tmp_path: Path) -> None:
    train(load_recipe("digits", SHORT), tmp_path / "first", device="cpu")
    taught = [*SHORT, f"teacher.file={tmp_path / 'first'}", "teacher.share=1.0"]
    summary = train(load_recipe("digits", taught), tmp_path / "taught", device="cpu")
    assert summary.teacher is None
    assert not (tmp_path / "taught" / "teacher").exists()
    plain = RunFolder(tmp_path / "first").read_summary()
    assert plain is not None
    assert plain.stages[0].score.loss != summary.stages[0].score.loss
    with pytest.raises(TrainingInterrupted):
        train(load_recipe("digits", taught), tmp_path / "stopped", device="cpu", seconds=0.01)
    (tmp_path / "first" / "model.safetensors").write_bytes((tmp_path / "first" / "stage1.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"is not the teacher that .*stopped began with: its SHA-256 was \w{64}"):
        train(load_recipe("digits", taught), tmp_path / "stopped", device="cpu", resume=True)
    (tmp_path / "first" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"the teacher .*first/model\.safetensors cannot be read"):
        train(load_recipe("digits", taught), tmp_path / "stopped", device="cpu", resume=True)
    with pytest.raises(CheckpointError, match=r"first/model\.safetensors"):
        train(load_recipe("digits", taught), tmp_path / "new", device="cpu")
    assert not (tmp_path / "new").exists()


def test_a_packed_model_teaches_like_the_network_that_was_packed(tmp_path: Path) -> None:
    train(load_recipe("digits", SHORT), tmp_path / "first", device="cpu")
    export_saved(tmp_path / "first" / "model.safetensors", tmp_path / "packed.biper")
    losses = []
    for file in ("first", "packed.biper"):
        taught = [*SHORT, f"teacher.file={tmp_path / file}", "teacher.share=1.0"]
        losses.append(train(load_recipe("digits", taught), tmp_path / f"by-{file}", device="cpu").final.score.loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    recipe = load_recipe("digits", taught)
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "stopped", device="cpu", seconds=0.01)
    resumed = train(recipe, tmp_path / "stopped", device="cpu", resume=True)
    assert resumed.final.score.loss == losses[1]  # its answers do not depend on what else is in a batch
    (tmp_path / "packed.biper").write_bytes(pretrained_file("digits-cnn").read_bytes())
    (tmp_path / "by-packed.biper" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"by-packed\.biper began with: its SHA-256 was"):
        train(recipe, tmp_path / "by-packed.biper", device="cpu", resume=True)


def test_a_packaged_model_teaches_by_its_name_and_only_its_own_data(tmp_path: Path) -> None:
    summary = train(load_recipe("digits", [*SHORT, "teacher.file=digits-cnn"]), tmp_path / "run", device="cpu")
    assert summary.final.score.accuracy > 0.3
    for name, problem in (
        ("cifar10-resnet20", r"cifar10-resnet20\.biper expects pixels with mean \(0\.4.* but those of this run have"),
        ("digit-cnn", "no file or folder digit-cnn, and no pretrained model.*did you mean 'digits-cnn'"),
    ):
        with pytest.raises(BiperError, match=problem):
            train(load_recipe("digits", [*SHORT, f"teacher.file={name}"]), tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()


def test_a_packed_network_answers_like_its_model_and_has_one_result(tmp_path: Path) -> None:
    model = load_pretrained("digits-cnn")
    images = torch.randn(5, 1, 8, 8)
    assert np.array_equal(PackedNetwork(model)(images.double()).numpy(), model(images.numpy()))
    program = model.program
    several = replace(program, outputs={"first": program.output, "second": program.output})
    with pytest.raises(ModelError, match="the packed model has several results, first, second; expected one"):
        PackedNetwork(Model(several))(images)


def test_a_teacher_of_other_data_is_refused(tmp_path: Path) -> None:
    for name, changes, problem in (
        ("cifar10", {}, r"expects pixels with mean \(0\.4.* but those of this run have mean \(0\.30"),
        ("digits", {"num_classes": 3}, r"outputs of shape \(2, 3\).*expected \(2, 10\): one for each class"),
    ):
        info = replace(ModelInfo.of_recipe(load_recipe("digits", [f"data.name={name}"])), **changes)
        save_model(tmp_path / f"{name}.safetensors", info.create(), info)
        recipe = load_recipe("digits", [*SHORT, f"teacher.file={tmp_path / name}.safetensors"])
        with pytest.raises(BiperError, match=problem):
            train(recipe, tmp_path / "run", device="cpu")


def test_the_loss_with_a_teacher_is_its_formula(tmp_path: Path) -> None:
    train(load_recipe("digits", [*SHORT, "model.bits=W32A32"]), tmp_path, device="cpu", precision="float64")
    settings = TeacherRecipe(epochs=2, learning_rate=0.1, share=0.7, temperature=3.0)
    fabric = Fabric(accelerator="cpu", precision="64-true")
    model, _ = load_model(tmp_path / "model.safetensors")
    teacher = Teacher(model, settings, fabric, torch.float64)
    images, logits = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.randn(5, 10, dtype=torch.float64)
    logits.requires_grad_()
    own = (logits**2).mean()
    wanted = (model.double()(images) / 3).softmax(1).detach()
    said = (logits / 3).softmax(1)
    expected = 0.3 * own + 0.7 * 9 * (wanted * (wanted / said).log()).sum() / 5
    loss = teacher.loss(images, logits, own)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0], rtol=1e-10, atol=1e-14)
    agreeing = Teacher(model, settings.model_copy(update={"share": 1.0}), fabric, torch.float64)
    assert agreeing.loss(images, agreeing.module(images), own).item() == pytest.approx(0, abs=1e-12)
