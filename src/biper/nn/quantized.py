"""What the binary layers have in common: their default quantizers and their scale."""

from __future__ import annotations

from torch import nn

from biper.quantizers import ApproxSign, PeriodicSign, Quantizer, Stage

DEFAULT_FREQUENCY = 20.0
"""ω of the paper's experiments, in radians per unit of latent weight."""


def default_quantizers(
    weight_quantizer: nn.Module | None, input_quantizer: nn.Module | None, frequency: float, stage: Stage | str | int
) -> tuple[nn.Module, nn.Module]:
    """The weight and the input quantizer of a layer: those given, or `PeriodicSign` and a normalizing `ApproxSign`."""
    if weight_quantizer is None:
        weight_quantizer = PeriodicSign(frequency, stage)
    if input_quantizer is None:
        input_quantizer = ApproxSign(normalize=True)
    return weight_quantizer, input_quantizer


def add_scale_(layer: nn.Conv2d | nn.Linear, weight_quantizer: nn.Module) -> None:
    """Give a layer its scale: learned, or constant ones where the weights have a magnitude of their own."""
    weight = layer.weight
    if isinstance(weight_quantizer, Quantizer) and weight_quantizer.scaled:
        layer.register_buffer("scale", weight.new_ones(len(weight)))
    else:
        start = weight.new_full((len(weight),), weight[0].numel() ** -0.5)
        layer.register_parameter("scale", nn.Parameter(start))
