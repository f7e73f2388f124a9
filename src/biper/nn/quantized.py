"""How binary layers are filled in: their default quantizers and their scale."""

from __future__ import annotations

from torch import nn

from biper.nn.latent import has_own_scale
from biper.quantizers import ApproxSign, PeriodicSign, Stage


def default_quantizers(
    weight_quantizer: nn.Module | None, input_quantizer: nn.Module | None, frequency: float, stage: Stage | str | int
) -> tuple[nn.Module, nn.Module]:
    """Fill in the quantizers that a layer was not given.

    Args:
        weight_quantizer: the weight quantizer, or None for ``PeriodicSign(frequency, stage)``.
        input_quantizer: the input quantizer, or None for ``ApproxSign(normalize=True)``.
        frequency: ω of the default weight quantizer, in radians per unit of weight.
        stage: the stage of the default weight quantizer.

    Returns:
        The weight quantizer and the input quantizer.
    """
    if weight_quantizer is None:
        weight_quantizer = PeriodicSign(frequency, stage)
    if input_quantizer is None:
        input_quantizer = ApproxSign(normalize=True)
    return weight_quantizer, input_quantizer


def add_scale_(layer: nn.Conv1d | nn.Conv2d | nn.Linear, weight_quantizer: nn.Module) -> None:
    """Give a layer its ``scale``, (out,): a parameter, or a buffer of ones if the weight quantizer has its own scale.

    Args:
        layer: a layer that already has its latent weight (out, ...).
        weight_quantizer: the layer's weight quantizer.
    """
    weight = layer.weight
    if has_own_scale(weight_quantizer):
        layer.register_buffer("scale", weight.new_ones(len(weight)))
    else:
        start = weight.new_full((len(weight),), weight[0].numel() ** -0.5)
        layer.register_parameter("scale", nn.Parameter(start))
