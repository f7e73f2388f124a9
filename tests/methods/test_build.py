"""The quantizers and activations that a network gets from its method."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from biper import BinaryConv2d, BinaryLinear, create_model
from biper.methods.build import (
    choose_frequencies_,
    make_activation,
    make_input_quantizer,
    make_weight_quantizer,
)
from biper.methods.inputs import ACTIVATIONS, INPUTS
from biper.methods.presets import METHODS
from biper.methods.settings import read_method
from biper.methods.weights import WEIGHTS
from biper.nn import binary_layers, periodic_weights
from biper.quantizers import RPReLU, StandardizedPeriodicSign, TunedPeriodicSign


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gets_a_network_of_its_quantizers(name: str) -> None:
    model = create_model("digits_cnn", dataset="digits", method=name)
    layers = binary_layers(model)
    assert len(layers) == 4
    for layer in layers.values():
        learned = isinstance(layer.scale, nn.Parameter)
        assert learned != layer.weight_quantizer.has_own_scale
        assert learned or layer.scale.tolist() == [1.0] * len(layer.scale)
    activations = [module for module in model.modules() if isinstance(module, nn.Hardtanh | RPReLU)]
    assert {type(module) for module in activations} == {RPReLU if name == "reactnet" else nn.Hardtanh}
    assert len(activations) == 5
    full = create_model("digits_cnn", dataset="digits", method=name, bits="W32A32")
    assert not binary_layers(full)


def test_layers_start_at_the_frequency_of_the_wanted_error() -> None:
    method = read_method({"target_error": 0.05})
    model = create_model("digits_cnn", dataset="digits", method=method)
    frequencies = {quantizer.frequency for _, quantizer in periodic_weights(model).values()}
    assert len(frequencies) == 4
    layer = BinaryLinear(400, 500, weight_quantizer=TunedPeriodicSign())
    laplace = torch.distributions.Laplace(0.0, 0.03).sample(layer.weight.shape)
    layer.weight.data.copy_(laplace)
    choose_frequencies_(layer, method)
    wave = layer.weight_quantizer.sign_argument(layer.weight.detach())
    scale = wave.abs().mean()
    assert (wave - scale * wave.sign()).square().mean().item() == pytest.approx(0.05, abs=1e-3)


def test_any_choice_goes_with_any() -> None:
    """Every pair of two choices is in one of the networks; each computes a gradient for all that is learned."""
    seen = set()
    for number, (weights, inputs) in enumerate(itertools.product(WEIGHTS, INPUTS)):
        activation = list(ACTIVATIONS)[(number % len(INPUTS) + number // len(INPUTS)) % 4]
        seen |= {("w", weights, activation), ("i", inputs, activation)}
        method = read_method({"weights": weights, "inputs": inputs, "activation": activation})
        model = nn.Sequential(
            make_activation(method, 3) or nn.Hardtanh(),
            BinaryConv2d(
                3,
                4,
                3,
                weight_quantizer=make_weight_quantizer(method, 20.0, 4),
                input_quantizer=make_input_quantizer(method, 3),
            ),
        )
        model(torch.randn(2, 3, 5, 5) + 0.5).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, (method.name, name)
            assert parameter.grad.isfinite().all(), (method.name, name)
    assert len(seen) == (len(WEIGHTS) + len(INPUTS)) * len(ACTIVATIONS)


def test_the_options_of_a_standardized_phase_reach_its_quantizer() -> None:
    table = {"phase_deviation": 0.8, "phase_deviation_end": 1.5, "phase_mean": "kept", "phase_group": "layer"}
    method = read_method(table | {"wave": "triangle", "sharpen_from": 0.5, "learn_frequency": "channel"})
    quantizer = make_weight_quantizer(method, 20.0, 7)
    assert isinstance(quantizer, StandardizedPeriodicSign)
    expected = 'phase_deviation=0.8, stage="relaxed", mean="kept", group="layer", wave="triangle", '
    assert repr(quantizer) == (
        f"StandardizedPeriodicSign({expected}phase_deviation_end=1.5, sharpen_from=0.5, learned_deviations=7)"
    )
