"""The share of its energy that a weight loses to one bit."""

from __future__ import annotations

import pytest
import torch

from biper import BinaryConv2d
from biper.measure.quantization_error import relative_errors
from biper.quantizers import DoReFaInput, SteSign


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
