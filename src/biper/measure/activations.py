"""Measurements of the inputs of binary layers: the balance of their signs, and the share that passes a gradient."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.measure.weights import binary_entropy
from biper.nn import BinaryLayer, binary_layers
from biper.quantizers import per_sample_statistics, sample_rows


@dataclass(frozen=True)
class ActivationRow:
    """Measurements of the inputs of one binary layer on some images.

    ``positive``, ``entropy`` and ``inside_window`` are None for a layer whose inputs stay real.

    Attributes:
        layer: qualified name.
        positive: share of inputs whose sign is +1.
        entropy: entropy of the signs of an input channel, mean over channels, in bits; it is 1 if half of them are +1.
        inside_window: share of inputs where the gradient of the quantizer is not zero. If the quantizer divides inputs
            by their per-sample standard deviation in training, they are divided by it here too.
        gradient_norm: Euclidean norm of the gradient of the latent weights, for the mean loss of the images in
            training mode.
    """

    layer: str
    positive: float | None
    entropy: float | None
    inside_window: float | None
    gradient_norm: float


def activation_rows(model: nn.Module, images: Tensor, labels: Tensor) -> list[ActivationRow]:
    """Measure the inputs of every binary layer, with a forward pass in evaluation mode and one step in training mode.

    Args:
        model: a network from images to logits (N, classes); it is not changed.
        images: (N, C, H, W) floating point, normalized, N at least 2.
        labels: (N,) int64.

    Returns:
        One row for each binary layer, in the order of the layers.
    """
    model = copy.deepcopy(model).eval()
    layers = binary_layers(model)
    seen: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    with _observed_inputs(layers, seen), torch.no_grad():
        model(images)
    model.train().zero_grad(set_to_none=True)
    with torch.enable_grad():
        torch.autograd.backward(F.cross_entropy(model(images), labels))
    rows = []
    for name, layer in layers.items():
        gradient = layer.weight.grad
        norm = 0.0 if gradient is None else torch.linalg.vector_norm(gradient).item()
        positive, entropy, inside = _means(seen[name])
        rows.append(ActivationRow(name, positive, entropy, inside, norm))
    return rows


@contextmanager
def _observed_inputs(
    layers: dict[str, BinaryLayer], seen: dict[str, list[tuple[float, float, float]]]
) -> Iterator[None]:
    """A context in which every call of a layer with binary inputs adds a description of the inputs to ``seen``."""
    handles = []
    for name, layer in layers.items():
        if isinstance(layer.input_quantizer, nn.Identity):
            continue

        def note(layer: Any, inputs: tuple[Tensor], name: str = name) -> None:
            seen[name].append(_describe(layer.input_quantizer, inputs[0], 1 if isinstance(layer, nn.Conv2d) else -1))

        handles.append(layer.register_forward_pre_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _describe(quantizer: nn.Module, x: Tensor, channel: int) -> tuple[float, float, float]:
    """The share of +1, the mean entropy of the signs of a channel in bits, and the share of inputs with a gradient."""
    x = x.detach()
    bits = quantizer(x) >= 0
    entropy = binary_entropy(bits.movedim(channel, 0).flatten(1).double().mean(1)).mean()
    if getattr(quantizer, "normalize", False):
        _, inverse_std = per_sample_statistics(sample_rows(x))
        x = x * inverse_std.view(-1, *[1] * (x.dim() - 1))
    with torch.enable_grad():
        probe = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(quantizer(probe).sum(), probe)
    return bits.double().mean().item(), entropy.item(), (gradient != 0).double().mean().item()


def _means(found: list[tuple[float, float, float]]) -> tuple[float | None, float | None, float | None]:
    """The mean of each of the three numbers over all calls of a layer; None without calls."""
    if not found:
        return None, None, None
    first, second, third = (sum(column) / len(found) for column in zip(*found, strict=True))
    return first, second, third
