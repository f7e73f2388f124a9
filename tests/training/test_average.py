"""The average of the weights: its formula, the statistics of its batch norms, and what a run does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from support.small_networks import small_network
from torch import nn

from biper import load_dataset, load_model, load_recipe, train
from biper.data.batches import TrainingBatches
from biper.data.settings import DataRecipe
from biper.io.tensors import load_tensors
from biper.measure.evaluation import evaluate
from biper.models.digits_cnn import DigitsCnn
from biper.models.saved import ModelInfo
from biper.nn import binary_layers
from biper.runs.folder import RunFolder
from biper.training.average import WeightAverage
from biper.training.batch_norm_statistics import DEFAULT_IMAGES
from biper.training.distributed.launch import ProcessInfo
from biper.training.distributed.processes import Processes

SHORT = ["stage1.epochs=2", "stage2.epochs=1", "data.batch_size=256"]


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "create", small_network)


def batches() -> TrainingBatches:
    digits = load_dataset("digits")
    return TrainingBatches(digits.train, digits.spec, DataRecipe(name="digits", batch_size=256), seed=0)


def average_of(module: nn.Module, horizon: float) -> WeightAverage:
    fabric = Fabric(accelerator="cpu", precision="64-true")
    return WeightAverage(module, horizon, batches(), Processes(fabric, ProcessInfo.from_environment()))


def test_the_average_is_a_mean_and_then_exponential() -> None:
    module = nn.Linear(2, 1, bias=False).double()
    average = average_of(module, 3.4)
    values = [0.0, 9.0, 3.0, 6.0, 10.0]
    found = []
    for step, value in enumerate(values, 1):
        nn.init.constant_(module.weight, value)
        average.add_step(step)
        found.append(average.averages["weight"][0, 0].item())
    assert found == pytest.approx([0.0, 4.5, 4.0, 4 + 2 / 3, 4 + 2 / 3 + (10 - 4 - 2 / 3) / 3])
    assert module.weight[0, 0] == 10.0


def test_statistics_are_measured_with_the_average_and_the_network_stays_as_it_was() -> None:
    module = DigitsCnn(width=8).double().train()
    average = average_of(module, 2)
    with torch.no_grad():
        for step in (1, 2):
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
            average.add_step(step)
    assert isinstance(module.conv1, nn.Conv2d)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    generator = torch.get_rng_state()
    with average.applied(1, 0):
        for name, parameter in module.named_parameters():
            assert torch.equal(parameter, average.averages[name])
        for name, layer in binary_layers(module).items():
            assert torch.equal(layer.weight >= 0, average.averages[f"{name}.weight"] >= 0)
        assert isinstance(module.bn1, nn.BatchNorm2d)
        found = module.bn1.running_mean, module.bn1.running_var
        outputs = [module.conv1(images.double()).detach() for images, _ in batches().epoch(1, 0)]
        means = [output.mean((0, 2, 3)) for output in outputs]
        variances = [output.var((0, 2, 3), correction=1) for output in outputs]
        assert len(outputs) * 256 < DEFAULT_IMAGES
        torch.testing.assert_close(found[0], torch.stack(means).mean(0))
        torch.testing.assert_close(found[1], torch.stack(variances).mean(0))
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert module.bn1.momentum == 0.1
    assert all(each.training for each in module.modules())
    assert torch.equal(generator, torch.get_rng_state())


def test_without_a_horizon_nothing_happens() -> None:
    module = nn.BatchNorm1d(3)
    average = average_of(module, 0.0)
    average.add_step(1)
    with average.applied(1, 0):
        average.apply_(1, 0)
    assert average.state() == {}
    assert torch.equal(module.running_mean, torch.zeros(3))  # type: ignore[arg-type]


def test_a_run_saves_and_scores_the_average_and_trains_on_with_the_raw_weights(tmp_path: Path) -> None:
    horizon = ["stage1.average_epochs=0.5", "stage2.average_epochs=1000"]
    summary = train(load_recipe("digits", [*SHORT, *horizon]), tmp_path / "averaged", device="cpu")
    train(load_recipe("digits", SHORT), tmp_path / "plain", device="cpu")
    averaged, plain = (RunFolder(tmp_path / name) for name in ("averaged", "plain"))
    rows = averaged.read_metrics()
    assert [row.train_loss for row in rows[:2]] == [row.train_loss for row in plain.read_metrics()[:2]]
    assert rows[1].score.accuracy == summary.stages[0].score.accuracy
    for number in (1, 2):
        model, info = load_model(averaged.stage_file(number))
        scores = evaluate(model, load_dataset("digits").split("test"), info.mean, info.std)
        assert scores.accuracy == summary.stages[number - 1].score.accuracy
    newest = next(path for path in averaged.checkpoints.newest_first() if path.name.startswith("stage1"))
    kept, raw = load_tensors(newest)[0], load_tensors(plain.stage_file(1))[0]
    saved, name = load_tensors(averaged.stage_file(1))[0], "block1.conv1.weight"
    assert torch.equal(kept[f"model/{name}"], raw[name])
    assert torch.equal(kept[f"average/{name}"], saved[name])
    assert not torch.equal(saved[name], raw[name])


def test_held_out_images_choose_between_averages(tmp_path: Path) -> None:
    changes = [*SHORT, "stage1.epochs=3", "data.selection=held-out", "stage1.average_epochs=2"]
    summary = train(load_recipe("digits", changes), tmp_path, device="cpu")
    rows = RunFolder(tmp_path).read_metrics()
    model, info = load_model(tmp_path / "stage1.safetensors")
    scores = evaluate(model, load_dataset("digits").hold_out()[1], info.mean, info.std)
    assert scores.accuracy == max(row.score.accuracy for row in rows if row.stage == 1)
    assert rows[summary.stages[0].selected_epoch - 1].score.accuracy == scores.accuracy


def test_the_horizon_is_scaled_with_the_epochs() -> None:
    recipe: Any = load_recipe("digits", ["stage1.average_epochs=4"])
    assert (recipe.scaled(0.5).stage1.average_epochs, recipe.stage2.average_epochs) == (2.0, 0.0)
