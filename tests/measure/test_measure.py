"""Measurements of weights, errors and signs, compared with formulas, with samples, and with counts by hand."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SEED
from torch import nn

from biper import create_model, load_model, load_recipe, train
from biper.errors import ModelError, TrainingInterrupted
from biper.measure.flips import sign_agreement, stage_agreement
from biper.measure.monitor import EVERY, LayerMeasures, LayerMonitor
from biper.measure.quantization_error import (
    error_curve,
    error_rows,
    quantization_errors,
)
from biper.measure.weights import binary_entropy, half_period_shares, histogram, sign_change_distance, weight_rows
from biper.methods.closed_form import (
    laplace_error,
    laplace_scale,
    laplace_scaled_error,
    normal_error,
    normal_scaled_error,
)
from biper.nn import BinaryConv2d, BinaryLinear
from biper.quantizers import StandardizedPeriodicSign, SteSign
from biper.runs.folder import RunFolder
from biper.training.progress import Progress


def laplace_samples(count: int, diversity: float) -> torch.Tensor:
    """Monte-Carlo samples of a Laplace distribution, one in each of ``count`` equally likely intervals; float64."""
    generator = torch.Generator().manual_seed(SEED)
    uniform = (
        torch.arange(count, dtype=torch.float64) + torch.rand(count, dtype=torch.float64, generator=generator)
    ) / count
    centred = uniform - 0.5
    return -diversity * centred.sign() * torch.log1p(-2 * centred.abs())


@pytest.mark.parametrize("product", [10 ** (step / 4) for step in range(-8, 9)])
def test_the_closed_form_is_what_samples_have_over_four_decades(product: float) -> None:
    """The tolerance is a thousandth of the value itself, which is far less than 0.001 for small products."""
    frequency = 20.0
    wave = torch.sin(frequency * laplace_samples(1_000_000, product / frequency))
    magnitude, power = wave.abs().mean().item(), wave.square().mean().item()
    assert laplace_scale(product) == pytest.approx(magnitude, rel=1e-3)
    assert laplace_error(product) == pytest.approx((wave - wave.sign()).abs().mean().item(), rel=1e-3)
    signs = torch.where(wave >= 0, 1.0, -1.0).double()
    assert laplace_scaled_error(product) == pytest.approx((wave - magnitude * signs).square().mean().item(), rel=1e-3)
    for other in (0.99, 1.01):
        assert (wave - other * magnitude * signs).square().mean() > power - magnitude**2


def test_the_closed_form_has_its_limits() -> None:
    assert laplace_error(1e6) == pytest.approx(1 - 2 / math.pi)
    assert laplace_scaled_error(1e6) == pytest.approx(0.5 - 4 / math.pi**2)
    assert laplace_scaled_error(1e-4) == pytest.approx(1e-8, rel=1e-6)
    assert (laplace_error(0.0), laplace_scaled_error(0.0)) == (1.0, 0.0)
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ModelError, match="a finite number from 0 on"):
            laplace_scale(wrong)


def layer_with(weights: list[list[float]], frequency: float) -> nn.Sequential:
    """A model of one linear layer with these latent weights."""
    layer = BinaryLinear(len(weights[0]), len(weights), frequency=frequency)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
    return nn.Sequential(layer)


def test_errors_of_a_layer_by_hand() -> None:
    """The phases are 30 and 90 degrees with both signs, so that the sines are 1/2 and 1."""
    phases = [math.pi / 6, math.pi / 2, -math.pi / 6, -math.pi / 2]
    model = layer_with([[phase / 20 for phase in phases]], 20.0)
    (row,) = error_rows(model)
    assert (row.layer, row.weights, row.frequency) == ("0", 4, 20.0)
    assert row.quantization_error == pytest.approx(0.25, abs=1e-6)
    assert row.scaled_error == pytest.approx(0.625 - 0.75**2, abs=1e-6)
    assert row.phase_diversity == pytest.approx(math.pi / 3, abs=1e-6)
    assert row.predicted_error == laplace_error(row.phase_diversity)
    assert row.sign_angle == pytest.approx(math.degrees(math.acos(0.75 / math.sqrt(0.625))), abs=1e-4)
    assert quantization_errors(model) == {"0": row.quantization_error}
    (dead,) = error_rows(layer_with([[0.0, 0.0]], 20.0))
    assert (dead.quantization_error, dead.predicted_error, dead.sign_angle) == (1.0, 1.0, 0.0)


def test_a_layer_of_laplace_weights_has_the_predicted_errors_and_curve() -> None:
    weights = laplace_samples(20_000, 0.05).float().reshape(100, 200)
    weights = weights[:, torch.randperm(200, generator=torch.Generator().manual_seed(SEED))]
    model = layer_with(weights.tolist(), 20.0)
    (row,) = error_rows(model)
    assert row.phase_diversity == pytest.approx(1.0, rel=1e-3)
    assert row.quantization_error == pytest.approx(row.predicted_error, rel=1e-3)
    assert row.scaled_error == pytest.approx(row.predicted_scaled_error, rel=1e-2)
    curve = error_curve(weights, [1.0, 5.0, 20.0, 60.0])
    assert [point.frequency for point in curve] == [1.0, 5.0, 20.0, 60.0]
    for point in curve:
        assert point.measured == pytest.approx(point.predicted, rel=2e-3)
    assert curve[2].measured == pytest.approx(row.quantization_error, abs=1e-6)


def test_weights_of_a_layer_by_hand() -> None:
    """The first of two channels has weights in three half-periods; all weights of the second are positive."""
    quarter = math.pi / 4
    phases = [[quarter, -quarter, 3 * quarter, 9 * quarter], [quarter, quarter, quarter, 2 * quarter]]
    model = layer_with([[phase / 10 for phase in row] for row in phases], 10.0)
    with torch.no_grad():
        model[0].scale.copy_(torch.tensor([-0.5, 1.5]))
    (row,) = weight_rows(model)
    assert row.positive == 7 / 8
    assert row.lowest_entropy == 0
    assert row.entropy == pytest.approx(0.5 * -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert row.half_periods == pytest.approx((0, 0, 0, 1 / 8, 6 / 8, 0, 1 / 8, 0))
    assert row.sign_change_distance == pytest.approx((7 * quarter + 2 * quarter) / 8 / 10, rel=1e-5)
    assert row.relative_distance == pytest.approx((7 * 0.5 + 1) / 8, rel=1e-5)
    assert (row.lowest_scale, row.median_scale, row.highest_scale, row.negative_scales) == (-0.5, 0.5, 1.5, 1)


def test_tables_of_layers_without_a_wave() -> None:
    model = nn.Sequential(BinaryConv2d(2, 3, 3, weight_quantizer=SteSign()), nn.Conv2d(3, 3, 1))
    assert error_rows(model) == []
    (row,) = weight_rows(model)
    assert row.sign_change_distance is row.half_periods is None
    assert row.positive == (model[0].weight >= 0).double().mean().item()


def test_distances_half_periods_and_entropies() -> None:
    phase = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    assert sign_change_distance(phase) == pytest.approx(math.pi / 4, rel=1e-2)
    shares = half_period_shares(phase)
    assert sum(shares) == pytest.approx(1)
    assert shares[1:-1] == pytest.approx([math.pi / 60] * 6, rel=1e-3)
    assert binary_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 1, 0]


def test_a_histogram_is_a_density() -> None:
    weight = torch.randn(10_000)
    found = histogram(weight, bins=21, coverage=0.99)
    width = found.edges[1] - found.edges[0]
    assert found.edges[0] == -found.edges[-1]
    assert sum(found.density) * width + found.outside == pytest.approx(1)
    assert found.outside == pytest.approx(0.01, abs=1e-3)


def test_a_monitor_counts_flips_and_measures_gradients() -> None:
    model = layer_with([[0.01, 0.01, 0.01, 0.01]], 20.0)
    weight = model[0].weight
    monitor = LayerMonitor(model)
    weight.grad = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    with torch.no_grad():
        weight[0, 0] = -0.01
    monitor.end_step(1)
    with torch.no_grad():
        weight[0, 1:3] = -0.01  # the second step is not measured, but the epoch counts its flips
    monitor.end_step(2)
    row = monitor.end_epoch()
    assert row.flip_ratio_step == {"0": 0.25}
    assert row.flip_ratio_epoch == {"0": 0.75}
    assert row.gradient_norm == {"0": 5.0}
    assert row.quantization_error == quantization_errors(model)
    for step in range(1, EVERY + 1):
        weight.grad = torch.full_like(weight, 1.0 if step == 1 else math.nan)
        monitor.end_step(step)
    with torch.no_grad():
        weight[0, 3] = -0.01
    weight.grad = torch.full_like(weight, 2.0)
    monitor.end_step(EVERY + 1)
    row = monitor.end_epoch()
    assert row.flip_ratio_step == {"0": 0.125}
    assert row.flip_ratio_epoch == {"0": 0.25}
    assert row.gradient_norm == {"0": 3.0}


def test_a_step_without_a_finite_gradient_is_left_out() -> None:
    model = layer_with([[0.01, 0.01]], 20.0)
    monitor = LayerMonitor(model)
    model[0].weight.grad = torch.tensor([[math.inf, 1.0]])
    monitor.end_step(1)
    row = monitor.end_epoch()
    assert row.gradient_norm == row.flip_ratio_step == {"0": 0.0}


def test_a_run_stopped_within_an_epoch_has_the_measures_of_one_never_stopped(tmp_path: Path) -> None:
    """The run is stopped after step 7 of the second epoch, and after step 20, before a step that is measured."""

    class Stops(Progress):
        def __init__(self, stops: set[int]) -> None:
            self.stops, self.steps = stops, 0

        def step(self, *_: object) -> None:
            self.steps += 1
            if self.steps in self.stops:
                os.kill(os.getpid(), signal.SIGTERM)

    recipe = load_recipe("digits", ["stage1.epochs=2", "stage2.epochs=1"])
    train(recipe, tmp_path / "whole", device="cpu")
    for stops in ({22 + 7}, {13}):
        with pytest.raises(TrainingInterrupted):
            train(recipe, tmp_path / "stopped", device="cpu", resume=True, progress=Stops(stops))
    train(recipe, tmp_path / "stopped", device="cpu", resume=True)
    rows = [RunFolder(tmp_path / name).read_metrics() for name in ("whole", "stopped")]
    for whole, stopped in zip(*rows, strict=True):
        assert replace(whole, images_per_second=0.0) == replace(stopped, images_per_second=0.0)
    assert set(rows[0][0].layers.to_json()) == set(LayerMeasures.names())
    assert all(0 < value < 0.5 for row in rows[0] for value in row.layers.flip_ratio_epoch.values())
    final, _ = load_model(tmp_path / "whole" / "model.safetensors")
    assert rows[0][-1].layers.quantization_error == quantization_errors(final)
    first, _ = load_model(tmp_path / "whole" / "stage1.safetensors")
    agreement = sign_agreement(first, final)
    assert agreement == pytest.approx({name: 1 - value for name, value in rows[0][-1].layers.flip_ratio_epoch.items()})
    assert set(stage_agreement(first).values()) == {1.0}


def test_signs_of_different_networks_are_not_compared() -> None:
    with pytest.raises(ModelError, match="18 and 4 binary layers"):
        sign_agreement(create_model("resnet20", dataset="cifar10"), create_model("digits_cnn", dataset="digits"))


@pytest.mark.parametrize("group", ["channel", "layer"])
def test_a_standardized_phase_is_measured_as_it_is_used(group: str) -> None:
    """Normal weights with a deviation of their own in each channel: σ alone sets the error, as the closed form says."""
    quantizer = StandardizedPeriodicSign(0.8, "binary", group=group)
    layer = BinaryConv2d(16, 8, 5, weight_quantizer=quantizer).double()
    spread = torch.linspace(0.5, 2.0, 8).view(-1, 1, 1, 1) if group == "channel" else 1.0
    generator = torch.Generator().manual_seed(SEED)
    layer.weight.data = 0.03 * spread * torch.randn(8, 16, 5, 5, dtype=torch.float64, generator=generator)
    (row,), (measured,) = error_rows(layer), weight_rows(layer)
    w, omega = layer.weight.detach(), 0.8 / layer.weight.detach().std((1, 2, 3) if group == "channel" else None)
    assert row.frequency == pytest.approx(omega.mean().item())
    count = 400 if group == "channel" else 3200  # the deviation is unbiased, the fitted one is not
    assert row.phase_deviation == pytest.approx(0.8 * math.sqrt((count - 1) / count))
    assert row.quantization_error == pytest.approx(normal_error(0.8), abs=0.01)
    assert row.predicted_normal_error == normal_error(row.phase_deviation)
    assert row.scaled_error == pytest.approx(normal_scaled_error(row.phase_deviation), abs=0.01)
    phase = quantizer.phase(w)
    to_change = (phase - math.pi * (phase / math.pi).round()).abs()
    assert measured.relative_distance == pytest.approx(to_change.mean().item() / (math.pi / 2))
    assert measured.sign_change_distance == pytest.approx((to_change / omega.view(-1, 1, 1, 1)).mean().item())
    assert measured.positive == pytest.approx((torch.sin(phase) >= 0).double().mean().item())


def test_a_layer_of_equal_weights_is_measured() -> None:
    layer = BinaryLinear(6, 2, weight_quantizer=StandardizedPeriodicSign(1.5))
    nn.init.constant_(layer.weight, 0.1)
    (row,), (measured,) = error_rows(layer), weight_rows(layer)
    assert (row.frequency, row.phase_deviation, row.quantization_error) == (0.0, 0.0, 1.0)
    assert (measured.sign_change_distance, measured.relative_distance, measured.positive) == (0.0, 0.0, 1.0)
