"""Functions over all binary layers of a model: find them, and set their training progress."""

from __future__ import annotations

from torch import Tensor, nn

from biper.nn.conv import BinaryConv2d
from biper.nn.conv1d import BinaryConv1d
from biper.nn.linear import BinaryLinear
from biper.quantizers import PeriodicSign, Quantizer

BinaryLayer = BinaryConv1d | BinaryConv2d | BinaryLinear
"""A layer that holds latent weights."""

BINARY_LAYERS = (BinaryConv1d, BinaryConv2d, BinaryLinear)
"""The types of the layers that hold latent weights."""


def binary_layers(model: nn.Module) -> dict[str, BinaryLayer]:
    """Find the binary layers of a model.

    Args:
        model: any module.

    Returns:
        The layers by their qualified names, in the order of ``model.named_modules()``. A layer that is used in several
        places appears once.
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, BINARY_LAYERS)}


def periodic_weights(model: nn.Module) -> dict[str, tuple[Tensor, PeriodicSign]]:
    """Find the binary layers of a model whose weight quantizer is a `PeriodicSign`.

    Args:
        model: any module.

    Returns:
        The latent weight and the weight quantizer of each of these layers, by the qualified name of the layer.
    """
    return {
        name: (layer.weight, layer.weight_quantizer)
        for name, layer in binary_layers(model).items()
        if isinstance(layer.weight_quantizer, PeriodicSign)
    }


def set_progress_(model: nn.Module, fraction: float) -> nn.Module:
    """Tell every quantizer of a model how much of the training stage is done, in place.

    Everything that a method changes during training (the steepness of a surrogate gradient, a scheduled frequency) is
    a function of this number alone, so that a resumed run computes the same bits as an uninterrupted one. A training
    loop calls this function before each step.

    Args:
        model: any module.
        fraction: the finished share of the stage's steps, above 0 and up to 1.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.set_progress(fraction)
    return model
