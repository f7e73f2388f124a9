"""Signs of weights that differ between two networks, and between the two stages of one."""

from __future__ import annotations

import copy

import torch
from torch import nn

from biper.errors import ModelError
from biper.measure.weights import weight_bits
from biper.nn import binary_layers, set_stage_
from biper.quantizers import Stage


def sign_agreement(one: nn.Module, other: nn.Module) -> dict[str, float]:
    """The share of weights that have the same sign in two models, by the name of the layer.

    Raises:
        ModelError: their binary layers have other names or shapes.
    """
    before, after = binary_layers(one), binary_layers(other)
    shapes = [{name: tuple(layer.weight.shape) for name, layer in layers.items()} for layers in (before, after)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            "expected two models with the same binary layers to compare their signs, "
            f"got {len(before)} and {len(after)} binary layers of other names or shapes"
        )
    return {name: (weight_bits(before[name]) == weight_bits(after[name])).double().mean().item() for name in before}


def stage_agreement(model: nn.Module) -> dict[str, float]:
    """The share of weights whose value in stage 2 has the sign of their value in stage 1, by the name of the layer.

    For the model at the end of stage 1 this is the share of signs that stage 2 begins with. The values are those that
    the quantizer of the layer gives in each stage; the model is not changed.
    """
    shares = {}
    with torch.no_grad():
        for name, layer in binary_layers(model).items():
            quantizer = copy.deepcopy(layer.weight_quantizer)
            relaxed, binary = (set_stage_(quantizer, stage)(layer.weight) for stage in Stage)
            shares[name] = ((relaxed >= 0) == (binary >= 0)).double().mean().item()
    return shares
