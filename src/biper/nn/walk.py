"""Functions over the binary layers of a model: find them, set their stage, tell them how far training is."""

from __future__ import annotations

from torch import Tensor, nn

from biper.nn.conv import BinaryConv2d
from biper.nn.conv1d import BinaryConv1d
from biper.nn.linear import BinaryLinear
from biper.quantizers import PeriodicSign, Quantizer, Stage

BINARY_LAYERS = (BinaryConv1d, BinaryConv2d, BinaryLinear)
"""The layer types that hold latent weights."""


def binary_layers(model: nn.Module) -> dict[str, BinaryConv1d | BinaryConv2d | BinaryLinear]:
    """The binary layers of a model by their qualified names, in the order of `named_modules`."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BINARY_LAYERS)}


def periodic_weights(model: nn.Module) -> dict[str, tuple[Tensor, PeriodicSign]]:
    """The latent weight and the quantizer of each binary layer with a `PeriodicSign`, by the layer's qualified name."""
    return {
        name: (layer.weight, layer.weight_quantizer)
        for name, layer in binary_layers(model).items()
        if isinstance(layer.weight_quantizer, PeriodicSign)
    }


def set_stage_(model: nn.Module, stage: Stage | str | int) -> nn.Module:
    """Put every `PeriodicSign` of a model into a stage, in place: ``"relaxed"`` (1) or ``"binary"`` (2).

    Returns:
        The same model.

    Raises:
        ModelError: the stage does not exist.
    """
    stage = Stage.of(stage)
    for module in model.modules():
        if isinstance(module, PeriodicSign):
            module.stage = stage
    return model


def set_progress_(model: nn.Module, fraction: float) -> nn.Module:
    """Tell every quantizer of a model how much of the stage training has done, in place: above 0, up to 1.

    What a method changes on the way (an estimator's steepness, a frequency) is a function of this number alone, so
    that a resumed run goes on with the same bits.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.set_progress(fraction)
    return model
