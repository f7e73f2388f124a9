"""Measurements of the latent weights and scales of binary layers: signs, half-periods, distances to sign changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biper.nn import BinaryLayer, binary_layers
from biper.quantizers import PeriodicSign, Quantizer

HALF_PERIODS = 4
"""How many half-periods are counted on either side of zero; the outermost two also count everything beyond them."""


@dataclass(frozen=True)
class WeightRow:
    """Measurements of the weights of one binary layer.

    ``sign_change_distance``, ``relative_distance`` and ``half_periods`` are None for a layer that is not periodic.

    Attributes:
        layer: qualified name.
        weights: how many latent weights the layer has.
        positive: share of weights whose sign is +1.
        entropy: entropy of the signs of an output channel, mean over channels, in bits; it is 1 if half of them are +1.
        lowest_entropy: the entropy of the channel where it is lowest.
        sign_change_distance: mean distance of a weight to the nearest change of sign, in units of weight.
        relative_distance: the same as a share of the largest possible, ``π / 2ω``; 0.5 for evenly spread weights.
        half_periods: share of weights in each half-period ``k = floor(ω w / π)``, for k from -4 to 3. Signs are +1 in
            the half-periods with even numbers.
        lowest_scale: the lowest of the learned scales of the output channels.
        median_scale: their median.
        highest_scale: the highest of them.
        negative_scales: how many of them are below zero.
    """

    layer: str
    weights: int
    positive: float
    entropy: float
    lowest_entropy: float
    sign_change_distance: float | None
    relative_distance: float | None
    half_periods: tuple[float, ...] | None
    lowest_scale: float
    median_scale: float
    highest_scale: float
    negative_scales: int


@dataclass(frozen=True)
class Histogram:
    """The distribution of the weights of a layer.

    Attributes:
        edges: the edges of the bins, one more than there are bins.
        density: the density of the weights in each bin, in 1 / unit of weight.
        outside: the share of weights beyond the outermost edges.
    """

    edges: tuple[float, ...]
    density: tuple[float, ...]
    outside: float


def weight_rows(model: nn.Module) -> list[WeightRow]:
    """Measure the weights of every binary layer of a model, in the order of its layers."""
    with torch.no_grad():
        return [_row(name, layer) for name, layer in binary_layers(model).items()]


def weight_bits(layer: BinaryLayer) -> Tensor:
    """The signs of the weights of a layer in stage 2: True for +1, in the shape of the weight."""
    quantizer = layer.weight_quantizer
    with torch.no_grad():
        take = quantizer.sign_argument if isinstance(quantizer, Quantizer) else quantizer
        return take(layer.weight) >= 0


def sign_change_distance(phase: Tensor, frequency: Tensor | None = None) -> float:
    """The mean distance of phases ``ω w`` to the nearest multiple of π.

    Args:
        phase: the phases, in radians.
        frequency: ω, in radians per unit of weight, in a shape that broadcasts with the phases. With it, the distance
            is in units of weight; a weight without a frequency (ω = 0) has the distance 0.

    Returns:
        The distance in radians, 0 to ``π / 2``, or in units of weight.
    """
    radians = (phase - math.pi * torch.round(phase / math.pi)).abs()
    if frequency is not None:
        radians = torch.where(frequency > 0, radians / frequency, 0.0)
    return radians.mean(dtype=torch.float64).item()


def half_period_shares(phase: Tensor, reach: int = HALF_PERIODS) -> tuple[float, ...]:
    """The share of phases in each half-period from ``-reach`` to ``reach - 1``; the outermost two have no outer end."""
    numbers = torch.floor(phase / math.pi).clamp(-reach, reach - 1).long() + reach
    counts = torch.bincount(numbers.flatten(), minlength=2 * reach)
    return tuple((counts / counts.sum()).tolist())


def histogram(weight: Tensor, bins: int = 121, coverage: float = 0.998) -> Histogram:
    """The distribution of latent weights over an interval about zero.

    Args:
        weight: latent weights of any shape.
        bins: how many bins; an odd number, so that zero is in the middle of one.
        coverage: the share of weights that the interval contains, 0 to 1.
    """
    values = weight.detach().flatten().double().cpu()
    magnitudes = values.abs().sort().values
    reach = max(magnitudes[min(math.ceil(coverage * len(values)), len(values)) - 1].item(), 1e-12)
    counts, edges = torch.histogram(values, bins, range=(-reach, reach))
    density = counts / len(values) / (2 * reach / bins)
    return Histogram(tuple(edges.tolist()), tuple(density.tolist()), 1 - counts.sum().item() / len(values))


def binary_entropy(share: Tensor) -> Tensor:
    """The entropy ``-p log2 p - (1 - p) log2(1 - p)`` in bits for each share p, 0 to 1."""
    both = torch.stack([share, 1 - share]).double()
    return -torch.xlogy(both, both).sum(0) / math.log(2)


def _row(name: str, layer: BinaryLayer) -> WeightRow:
    """Measure the weights of one layer."""
    bits, quantizer = weight_bits(layer), layer.weight_quantizer
    entropies = binary_entropy(bits.flatten(1).double().mean(1))
    distance = relative = shares = None
    if isinstance(quantizer, PeriodicSign):
        phase = quantizer.phase(layer.weight)
        relative = sign_change_distance(phase) / (math.pi / 2)
        distance = sign_change_distance(phase, quantizer.frequency_of(layer.weight))
        shares = half_period_shares(phase)
    scale = layer.scale.double()
    return WeightRow(
        layer=name,
        weights=layer.weight.numel(),
        positive=bits.double().mean().item(),
        entropy=entropies.mean().item(),
        lowest_entropy=entropies.min().item(),
        sign_change_distance=distance,
        relative_distance=relative,
        half_periods=shares,
        lowest_scale=scale.min().item(),
        median_scale=scale.quantile(0.5).item(),
        highest_scale=scale.max().item(),
        negative_scales=int((scale < 0).sum()),
    )
