"""Methods in training: learning rates of latent weights, schedules, resumed runs, and what each method learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.stops import StopsAt

from biper import create_model, load_model, load_recipe, train
from biper.errors import TrainingInterrupted
from biper.methods.presets import METHODS
from biper.models.saved import ModelInfo, save_model
from biper.nn import binary_layers, periodic_weights
from biper.quantizers import RPReLU, RSign, Stage, StandardizedPeriodicSign
from biper.recipes.schema import StageRecipe
from biper.runs.folder import RunFolder
from biper.targets.packed.saved import export_saved
from biper.training.initial_weights import take_weights_
from biper.training.optimizer import make_optimizer


def test_latent_weights_have_a_learning_rate_of_their_own() -> None:
    model = create_model("digits_cnn", dataset="digits")
    for decay_on, counts in (("all", [False, True]), ("weights", [False, False, True])):
        stage = StageRecipe(epochs=1, learning_rate=0.5, weight_decay=0.1, weight_decay_on=decay_on)
        assert not any("learning_rate_factor" in group for group in make_optimizer(model, stage).param_groups)
        groups = make_optimizer(model, stage, 10.0).param_groups
        assert ["learning_rate_factor" in group for group in groups] == counts
        latent = {layer.weight for layer in binary_layers(model).values()}
        assert set(groups[-1]["params"]) == latent
        assert groups[-1]["learning_rate_factor"] == 10.0
        assert groups[-1]["weight_decay"] == 0.1
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_a_step_moves_latent_weights_by_the_factor_and_others_as_before(tmp_path: Path) -> None:
    one_step = ["data.batch_size=1437", "stage1.epochs=1", "stage2.epochs=1", "stage1.warmup_epochs=0"]
    states = []
    for factor in (1.0, 2.0, 10.0):
        train(load_recipe("digits", [*one_step, f"method.learning_rate_factor={factor}"]), tmp_path / f"{factor}")
        states.append(load_model(tmp_path / f"{factor}" / "stage1.safetensors")[0].state_dict())
    one, two, ten = (state["block1.conv1.weight"].double() for state in states)
    assert (two - one).abs().max() > 1e-4
    torch.testing.assert_close(ten - one, 9 * (two - one), rtol=1e-3, atol=1e-6)
    for name in ("conv1.weight", "block1.conv1.scale", "fc.bias"):
        assert torch.equal(states[0][name], states[1][name])
        assert torch.equal(states[0][name], states[2][name])


TUNED = '{name="biper", frequency_end=40.0, sharpen_from=0.3, learn_frequency="channel", wave="triangle"}'


STANDARDIZED = (
    '{weights={name="biper", phase_deviation=1.5, phase_deviation_end=1.2, sharpen_from=0.3, learn_frequency="layer"}, '
    'inputs="rsign", activation="rprelu"}'
)


@pytest.mark.parametrize("method", ['{name="ir-net", learning_rate_factor=10.0}', TUNED, STANDARDIZED])
def test_a_resumed_schedule_goes_on_with_the_same_bits(method: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=2", "stage2.epochs=1", f"method={method}"])
    train(recipe, tmp_path / "whole", device="cpu")
    for stop in (7, 40):  # in epoch 1, then in epoch 3
        with pytest.raises(TrainingInterrupted, match="everything is saved"):
            train(recipe, tmp_path / "stopped", device="cpu", resume=True, progress=StopsAt(stop))
    train(recipe, tmp_path / "stopped", device="cpu", resume=True)
    a, b = (RunFolder(tmp_path / name) for name in ("whole", "stopped"))
    assert a.model_file.read_bytes() == b.model_file.read_bytes()
    assert [row["train_loss"] for row in a.read_metrics()] == [row["train_loss"] for row in b.read_metrics()]


def test_a_run_ends_at_the_end_of_its_schedule(tmp_path: Path) -> None:
    changes = ["stage1.epochs=1", "stage2.epochs=1", "method.frequency_end=40.0", "method.sharpen_from=0.0"]
    summary = train(load_recipe("digits", changes), tmp_path, device="cpu")
    for name, stage in (("stage1", Stage.RELAXED), ("stage2", Stage.BINARY)):
        model, info = load_model(tmp_path / f"{name}.safetensors")
        assert info.method["frequency_end"] == 40.0
        for _, quantizer in periodic_weights(model).values():
            assert (quantizer.frequency, quantizer.sharpness, quantizer.stage) == (40.0, 10.0, stage)
    assert set(summary["stage2"]["relative_error"]) == {f"block{b}.conv{c}" for b in (1, 2) for c in (1, 2)}


def reaches_95(name: str, epochs: int, out: Path) -> None:
    changes = [f"stage1.epochs={epochs}", f"stage2.epochs={epochs // 4}", "stage1.warmup_epochs=0.5"]
    changes += [f"method.name={name}", "method.learning_rate_factor=10.0"]
    summary = train(load_recipe("digits", changes), out, device="cpu")
    assert ("stage2" in summary) == (name == "biper")
    assert summary.get("stage2", summary["stage1"])["test_accuracy"] >= 0.95


def test_another_method_learns_the_digits(tmp_path: Path) -> None:
    reaches_95("recu", 16, tmp_path)


def test_a_standardized_phase_with_learned_inputs_and_activations_learns_the_digits(tmp_path: Path) -> None:
    changes = ["stage1.epochs=5", "stage2.epochs=3", "stage1.warmup_epochs=0.5", "method.inputs=rsign"]
    changes += ["method.activation=rprelu", "method.phase_deviation=1.5", "method.sharpen_from=0.15"]
    recipe = load_recipe("digits", changes)
    summary = train(recipe, tmp_path, device="cpu")
    assert summary["stage2"]["test_accuracy"] >= 0.9
    model, info = load_model(tmp_path / "model.safetensors")
    assert info.method == recipe.method.model_dump()
    assert {(type(layer.weight_quantizer), type(layer.input_quantizer)) for layer in binary_layers(model).values()} == {
        (StandardizedPeriodicSign, RSign)
    }
    assert sum(isinstance(module, RPReLU) for module in model.modules()) == 5
    for weight, quantizer in periodic_weights(model).values():
        torch.testing.assert_close(quantizer.phase(weight).flatten(1).std(1), torch.full((len(weight),), 1.5))
    report, _ = export_saved(tmp_path / "model.safetensors", tmp_path / "model.biper")
    assert report.problems() == []


def test_the_deviation_is_not_taken_from_the_frequency_of_another_model(tmp_path: Path) -> None:
    plain = load_recipe("digits", ["method.sharpen_from=0.5"])
    save_model(tmp_path / "plain.safetensors", ModelInfo.of_recipe(plain).create(), ModelInfo.of_recipe(plain))
    info = ModelInfo.of_recipe(load_recipe("digits", ["method.phase_deviation=1.5", "method.inputs=rsign"]))
    model = info.create()
    take_weights_(model, info, tmp_path / "plain.safetensors", 1)
    assert {quantizer.phase_deviation for _, quantizer in periodic_weights(model).values()} == {1.5}
    taken = load_model(tmp_path / "plain.safetensors")[0]
    assert torch.equal(model.get_parameter("block1.conv1.weight"), taken.get_parameter("block1.conv1.weight"))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_the_digits(name: str, tmp_path: Path) -> None:
    reaches_95(name, 24, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        'learn_frequency="layer"',
        'learn_frequency="channel"',
        "frequency_end=40.0",
        "target_error=0.1",
        'wave="triangle"',
        "sharpen_from=0.5",
        "relaxed_stage=false",
        "phase_deviation=0.8",
        'phase_deviation=1.0, phase_deviation_end=1.5, phase_mean="kept", phase_group="layer"',
    ],
)
def test_every_option_of_biper_learns_the_digits(options: str, tmp_path: Path) -> None:
    changes = ["stage1.epochs=20", "stage2.epochs=10", f'method={{name="biper", {options}}}']
    summary = train(load_recipe("digits", changes), tmp_path, device="cpu")
    assert summary.get("stage2", summary["stage1"])["test_accuracy"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [-0.03, 0.0])
def test_the_penalty_of_either_sign_or_none_learns_the_digits(penalty: float, tmp_path: Path) -> None:
    changes = [f"stage{number}.periodic_penalty={penalty}" for number in (1, 2)]
    summary = train(load_recipe("digits", ["stage1.epochs=20", "stage2.epochs=10", *changes]), tmp_path, device="cpu")
    assert summary["stage2"]["test_accuracy"] >= 0.95
