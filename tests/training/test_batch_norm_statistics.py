"""Statistics of batch norms that are measured anew at the end of a stage: when, how, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.small_networks import small_network
from torch import Tensor, nn

from biper import load_dataset, load_model, load_recipe, train
from biper.data.batches import TrainingBatches
from biper.io.tensors import load_tensors
from biper.measure.evaluation import evaluate
from biper.models.saved import ModelInfo
from biper.runs.folder import RunFolder

SHORT = ["stage1.epochs=2", "stage2.epochs=1", "data.batch_size=256"]


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "create", small_network)


def run(folder: Path, precision: str, *changes: str) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """The tensors of the final model and of the last checkpoint of a short run, and its final accuracy."""
    summary = train(load_recipe("digits", [*SHORT, *changes]), folder, device="cpu", precision=precision)
    files = RunFolder(folder)
    checkpoint = load_tensors(next(iter(files.checkpoints.newest_first())))[0]
    trained = {name[6:]: value for name, value in checkpoint.items() if name.startswith("model/")}
    return load_tensors(folder / "model.safetensors")[0], trained, summary.stages[-1].score.accuracy


def is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


@pytest.mark.parametrize(
    ("precision", "changes", "anew"),
    [
        ("float32", (), False),
        ("bfloat16", (), True),
        ("bfloat16", ("stage2.batch_norm_images=0",), False),
        ("float32", ("stage2.batch_norm_images=600",), True),
    ],
)
def test_statistics_are_measured_anew_where_the_recipe_or_the_precision_asks(
    tmp_path: Path, precision: str, changes: tuple[str, ...], anew: bool
) -> None:
    saved, trained, accuracy = run(tmp_path, precision, *changes)
    assert any(map(is_statistic, saved))
    for name, value in saved.items():
        if not is_statistic(name):
            assert torch.equal(value, trained[name])
        elif name.endswith(".running_mean"):
            assert torch.equal(value, trained[name]) != anew
    model, info = load_model(tmp_path / "model.safetensors")
    assert evaluate(model, load_dataset("digits").split("test"), info.mean, info.std).accuracy == accuracy


def test_they_are_the_means_over_batches_in_float32(tmp_path: Path) -> None:
    run(tmp_path, "bfloat16", "stage2.batch_norm_images=600")
    model, _ = load_model(tmp_path / "model.safetensors")
    digits, recipe = load_dataset("digits"), load_recipe(tmp_path / "recipe.toml")
    batches = TrainingBatches(digits.train, digits.spec, recipe.data, seed=recipe.seed)
    inputs: list[Tensor] = []
    assert isinstance(model.conv1, nn.Conv2d)
    assert isinstance(model.bn1, nn.BatchNorm2d)
    for number, (images, _) in enumerate(batches.epoch(2, 0)):
        if number < 3:  # 600 images are three batches of 256
            inputs.append(model.conv1(images.float()).detach())
    means = torch.stack([each.mean((0, 2, 3)) for each in inputs]).mean(0)
    variances = torch.stack([each.var((0, 2, 3), correction=1) for each in inputs]).mean(0)
    torch.testing.assert_close(model.bn1.running_mean, means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.bn1.running_var, variances, rtol=1e-5, atol=1e-6)
    assert model.bn1.momentum == 0.1


def test_they_change_no_later_stage(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", "bfloat16", "stage1.batch_norm_images=0")[1]
    anew = run(tmp_path / "anew", "bfloat16")[1]
    assert all(torch.equal(value, anew[name]) for name, value in plain.items() if not is_statistic(name))
