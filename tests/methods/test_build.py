"""The quantizers and activations that a network gets from its method."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biper import BinaryLinear, create_model
from biper.methods.build import choose_frequencies_
from biper.methods.presets import METHODS
from biper.methods.settings import read_method
from biper.nn import binary_layers, periodic_weights
from biper.quantizers import RPReLU, TunedPeriodicSign


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
