"""Methods as settings, their schedules and learning rates, and the state that they keep."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from biper import (
    BinarizeConfig,
    BinaryConv2d,
    BinaryLinear,
    binarize_,
    create_model,
    load_model,
    load_recipe,
    periodic_penalty,
    train,
)
from biper.errors import ModelError, RecipeError, TrainingInterrupted
from biper.measure.quantization_error import relative_errors
from biper.methods.build import choose_frequencies_
from biper.methods.closed_form import LARGEST_ERROR, LARGEST_PRODUCT, frequency_for_error, laplace_scaled_error
from biper.methods.settings import METHODS, BiperMethod, read_method
from biper.nn import binary_layers, periodic_weights, set_progress_, set_stage_
from biper.quantizers import (
    DoReFaInput,
    ErrorDecaySign,
    PowerSign,
    RectifiedClampSign,
    RPReLU,
    Stage,
    SteSign,
    TunedPeriodicSign,
    sign,
)
from biper.recipes.schema import StageRecipe
from biper.runs.folder import RunFolder
from biper.training.optimizer import make_optimizer
from biper.training.progress import Progress


def test_a_recipe_names_its_method_and_options_and_reads_back(tmp_path: Path) -> None:
    changes = ["method.name=ir-net", "method.t_end=5.0", "method.learning_rate_factor=10.0"]
    recipe = load_recipe("digits", changes)
    assert (recipe.method.name, recipe.method.t_end, recipe.method.learning_rate_factor) == ("ir-net", 5.0, 10.0)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    tuned = load_recipe("digits", ["method.learn_frequency=channel", "method.target_error=0.05"])
    assert tuned.method == BiperMethod(learn_frequency="channel", target_error=0.05)
    assert load_recipe("digits").method == BiperMethod()
    assert not BiperMethod(relaxed_stage=False, learning_rate_factor=3.0).is_tuned
    assert BiperMethod(wave="triangle").is_tuned


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.name=irnet", "no method 'irnet'; did you mean 'ir-net'? Known: biper, bnn, "),
        ("method.tau_end=0.9", "unknown key 'method.tau_end'"),
        ("method.learn_frequencies=layer", "unknown key 'method.learn_frequencies'; did you mean 'method.learn_freq"),
        ("method.learn_frequency=all", "method.learn_frequency: must be 'no', 'layer' or 'channel', got 'all'"),
        ("method.target_error=0.2", "method.target_error: must be less than or equal to 0.1028, got 0.2"),
        ("method.learning_rate_factor=0", "method.learning_rate_factor: must be greater than 0, got 0"),
        ('method={name="recu", tau_end=1.0}', "method.tau_end: must be less than 1, got 1.0"),
        ('method={name="recu", tau_ent=0.9}', "unknown key 'method.tau_ent'; did you mean 'method.tau_end'?"),
        ("method={relaxed_stage=false, sharpen_from=0.5}", "method: frequency_end and sharpen_from are about stage 1"),
        ("method=3", "method: "),
    ],
)
def test_wrong_methods_are_one_line(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_methods_are_read_from_names_and_tables() -> None:
    assert read_method(None) == read_method("biper") == BiperMethod()
    assert read_method({"name": "reste", "order_end": 2.0}).order_end == 2.0
    for wrong, message in (("bin", "method: .*methods: biper"), ({"name": "bnn", "t": 1}, r"method\.t: Extra inputs")):
        with pytest.raises(ModelError, match=message):
            read_method(wrong)
    with pytest.raises(ModelError, match="methods: biper, bnn"):
        create_model("digits_cnn", dataset="digits", method="bin")


def test_every_method_and_option_is_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "methods.md").read_text(encoding="utf-8")
    for name, kind in METHODS.items():
        assert len(re.findall(rf"^\| `{name}` \|", page, re.MULTILINE)) == 2
        for option, field in kind.model_fields.items():
            if option != "name":
                default = "" if field.default is None else f" = {json.dumps(field.default)}"
                assert f"`{option}{default}`" in page, (name, option)


def test_one_stage_methods_train_the_epochs_of_both_stages_with_the_settings_of_the_first() -> None:
    recipe = load_recipe("digits", ["method.name=bnn"])
    assert recipe.stages == (recipe.stage1.model_copy(update={"epochs": 60}),)
    assert len(load_recipe("digits").stages) == 2
    assert [stage.epochs for stage in load_recipe("digits", ["method.relaxed_stage=false"]).stages] == [60]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gets_a_network_of_its_quantizers(name: str) -> None:
    model = create_model("digits_cnn", dataset="digits", method=name)
    layers = binary_layers(model)
    assert len(layers) == 4
    for layer in layers.values():
        learned = isinstance(layer.scale, nn.Parameter)
        assert learned != layer.weight_quantizer.scaled
        assert learned or layer.scale.tolist() == [1.0] * len(layer.scale)
    activations = [module for module in model.modules() if isinstance(module, nn.Hardtanh | RPReLU)]
    assert {type(module) for module in activations} == {RPReLU if name == "reactnet" else nn.Hardtanh}
    assert len(activations) == 5
    full = create_model("digits_cnn", dataset="digits", method=name, bits="W32A32")
    assert not binary_layers(full)


def test_binarize_takes_a_method() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3).double(), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    binarize_(model, BinarizeConfig(method=read_method("reactnet")))
    assert model[1].input_quantizer.threshold.shape == (4,)
    assert model[1].input_quantizer.threshold.dtype == torch.float64
    binarize_(model, BinarizeConfig(include=("4",), method=BiperMethod(learn_frequency="channel")))
    assert model[4].weight_quantizer.log_gain.shape == (2,)


def test_schedules_go_from_their_start_to_their_end() -> None:
    model = nn.ModuleList([ErrorDecaySign(), RectifiedClampSign(), PowerSign()])
    decay, clamp, power = model
    expected = {0.0: (0.1, 0.85, 1.0), 0.5: (1.0, 0.85 + 0.14 * (math.sqrt(math.e) - 1) / (math.e - 1), 2.0)}
    expected[1.0] = (10.0, 0.99, 3.0)
    for fraction, values in expected.items():
        assert set_progress_(model, fraction) is model
        assert (decay.t, clamp.tau, power.order) == pytest.approx(values)


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


def test_what_the_wave_has_come_to_is_saved() -> None:
    method = BiperMethod(frequency_end=40.0, sharpen_from=0.5, learn_frequency="channel")
    model = create_model("digits_cnn", dataset="digits", method=method, frequency=10.0)
    set_progress_(model, 0.75)
    for layer in binary_layers(model).values():
        nn.init.uniform_(layer.weight_quantizer.log_gain, -1, 1)
    other = create_model("digits_cnn", dataset="digits", method=method, frequency=13.0)
    other.load_state_dict(model.state_dict())
    for name, layer in binary_layers(other).items():
        quantizer = layer.weight_quantizer
        assert (quantizer.frequency, quantizer.frequency_start, quantizer.sharpness) == (10 * 4**0.75, 10.0, 5.0)
        torch.testing.assert_close(quantizer.frequencies(), 10 * 4**0.75 * quantizer.log_gain.detach().double().exp())
        assert torch.equal(quantizer(layer.weight), binary_layers(model)[name].weight_quantizer(layer.weight))
    set_stage_(other, "binary")
    set_progress_(other, 0.1)  # stage 2 keeps the frequency that stage 1 ended with
    assert {quantizer.frequency for _, quantizer in periodic_weights(other).values()} == {10 * 4**0.75}


def test_a_learned_frequency_stays_near_its_own_however_high_the_learning_rate() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(2, 3, 3, weight_quantizer=TunedPeriodicSign(20.0, learned_frequencies=3))
    optimizer = torch.optim.SGD([layer.weight_quantizer.log_gain], lr=1e3, momentum=0.9)
    seen = set()
    for step in range(50):
        set_progress_(layer, step / 50)
        frequencies = layer.weight_quantizer.frequencies()
        assert ((frequencies >= 20 * math.exp(-1.5)) & (frequencies <= 20 * math.exp(1.5))).all()
        phase = layer.weight_quantizer.phase(layer.weight)
        torch.testing.assert_close(phase, frequencies.float().view(3, 1, 1, 1) * layer.weight)
        seen |= set(layer.weight_quantizer.log_gain.tolist())
        optimizer.zero_grad()
        layer(torch.randn(4, 2, 8, 8)).square().mean().backward()
        optimizer.step()
    assert {-1.5, 1.5} <= seen  # from one limit it still found the way to the other


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_the_penalty_is_of_the_frequency_that_is_used_and_may_be_negative(strength: float) -> None:
    quantizer = TunedPeriodicSign(7.0, learned_frequencies=3)
    layer = BinaryConv2d(2, 3, 3, weight_quantizer=quantizer).double()
    nn.init.uniform_(quantizer.log_gain, -1, 1)
    penalty = periodic_penalty(layer, strength)
    phase = 7 * quantizer.log_gain.detach().exp().view(3, 1, 1, 1) * layer.weight.detach()
    torch.testing.assert_close(penalty, strength * torch.sin(phase).square().mean())
    penalty.backward()
    expected = strength * torch.sin(2 * phase) * phase / layer.weight / layer.weight.numel()
    torch.testing.assert_close(layer.weight.grad, expected)
    assert load_recipe("digits", [f"stage1.periodic_penalty={strength}"]).stage1.periodic_penalty == strength


def test_the_closed_form_is_the_integral() -> None:
    """Over exp(-u), u = |w| / b: the mean of (sin - γ sign)² at the best γ."""
    u = torch.linspace(0, 40, 4_000_001, dtype=torch.float64)
    density = torch.exp(-u)
    for product in (0.01, 0.1, 0.5, LARGEST_PRODUCT, 2.0, 10.0):
        sine = torch.sin(product * u)
        scale = torch.trapezoid(sine.abs() * density, u)
        error = torch.trapezoid((sine - scale * sign(sine)).square() * density, u).item()
        assert laplace_scaled_error(product) == pytest.approx(error, abs=1e-6)
        assert laplace_scaled_error(product) <= LARGEST_ERROR + 1e-4


def test_a_frequency_is_found_for_an_error() -> None:
    for target in (1e-4, 0.01, 0.05, LARGEST_ERROR):
        for diversity in (0.01, 0.05, 2.0):
            frequency = frequency_for_error(target, diversity)
            assert laplace_scaled_error(frequency * diversity) == pytest.approx(target, rel=1e-9)
            assert frequency * diversity <= LARGEST_PRODUCT
    for target, diversity in ((0.11, 1.0), (0.0, 1.0), (0.05, 0.0), (0.05, math.nan)):
        with pytest.raises(ModelError, match="no frequency gives a quantization error of"):
            frequency_for_error(target, diversity)


def test_layers_start_at_the_frequency_of_the_wanted_error() -> None:
    method = BiperMethod(target_error=0.05)
    model = create_model("digits_cnn", dataset="digits", method=method)
    frequencies = {quantizer.frequency for _, quantizer in periodic_weights(model).values()}
    assert len(frequencies) == 4
    layer = BinaryLinear(400, 500, weight_quantizer=TunedPeriodicSign())
    laplace = torch.distributions.Laplace(0.0, 0.03).sample(layer.weight.shape)
    layer.weight.data.copy_(laplace)
    choose_frequencies_(layer, method)
    wave = layer.weight_quantizer.real(layer.weight.detach())
    scale = wave.abs().mean()
    assert (wave - scale * wave.sign()).square().mean().item() == pytest.approx(0.05, abs=1e-3)


def test_relative_errors_are_the_energy_lost_to_one_bit() -> None:
    layer = BinaryConv2d(2, 3, 3, weight_quantizer=SteSign(), input_quantizer=DoReFaInput())
    weight = layer.weight.detach()
    best = (weight.abs() * 1.0).mean()
    lost = (weight - best * weight.sign()).square().sum() / weight.square().sum()
    assert relative_errors(layer) == {"": pytest.approx(lost.item(), rel=1e-5)}
    layer.weight.data.fill_(0.25)
    assert relative_errors(layer)[""] == pytest.approx(0, abs=1e-6)
    layer.weight.data.zero_()
    assert relative_errors(layer)[""] == 0
    wave = BinaryConv2d(2, 3, 3)
    sine = torch.sin(20 * wave.weight.detach())
    assert relative_errors(wave)[""] == pytest.approx(
        1 - (sine.abs().mean() ** 2 / sine.square().mean()).item(), rel=1e-5
    )


class StopsAt(Progress):
    """Sends this process a SIGTERM after a step of the run."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


TUNED = '{name="biper", frequency_end=40.0, sharpen_from=0.3, learn_frequency="channel", wave="triangle"}'


@pytest.mark.parametrize("method", ['{name="ir-net", learning_rate_factor=10.0}', TUNED])
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


def test_a_rival_learns_the_digits(tmp_path: Path) -> None:
    reaches_95("recu", 12, tmp_path)


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
