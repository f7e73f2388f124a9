"""Scheduled and learned numbers of quantizers, and the state dict that holds them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from biper import BinaryConv2d, create_model, set_stage_
from biper.methods.settings import read_method
from biper.nn import binary_layers, periodic_weights, set_progress_
from biper.quantizers import ErrorDecaySign, PowerSign, RectifiedClampSign, TunedPeriodicSign


def test_schedules_go_from_their_start_to_their_end() -> None:
    model = nn.ModuleList([ErrorDecaySign(), RectifiedClampSign(), PowerSign()])
    decay, clamp, power = model
    expected = {0.0: (0.1, 0.85, 1.0), 0.5: (1.0, 0.85 + 0.14 * (math.sqrt(math.e) - 1) / (math.e - 1), 2.0)}
    expected[1.0] = (10.0, 0.99, 3.0)
    for fraction, values in expected.items():
        assert set_progress_(model, fraction) is model
        assert (decay.t, clamp.tau, power.order) == pytest.approx(values)


def test_the_state_dict_holds_scheduled_and_learned_numbers() -> None:
    method = read_method({"frequency_end": 40.0, "sharpen_from": 0.5, "learn_frequency": "channel"})
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
    set_progress_(other, 0.1)  # stage 2 keeps the last frequency of stage 1
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
    assert {-1.5, 1.5} <= seen  # a parameter at one limit can still move to the other
