"""Signs that change: watched while a network trains, and between two networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biper.errors import ModelError
from biper.measure.quantization_error import error_table
from biper.measure.weights import weight_bits
from biper.nn import binary_layers, set_stage_
from biper.quantizers import Stage

EVERY = 20
"""Steps from one that is looked at to the next: looking costs a small share of a step, and then of twenty."""

PREFIX = "watch/"
"""Of the names of what a checkpoint keeps of a `Watch`."""


class Watch:
    """Watches the binary layers of a model through the steps of an epoch.

    The first step of an epoch and every twentieth after it are looked at. Nothing is read back from the model's device
    before the epoch ends.

    Args:
        model: as it stands now, on its device.
        saved: the tensors of a checkpoint; what `state` put there is taken up again.
        step: steps of the epoch that are done.
    """

    def __init__(self, model: nn.Module, saved: Mapping[str, Tensor] | None = None, step: int = 0) -> None:
        self.model, self.layers = model, binary_layers(model)
        self._begin()
        if saved is not None and PREFIX + "samples" in saved:
            self._restore(saved)
        self._before = self._bits() if step % EVERY == 0 else None

    def step(self, step: int) -> None:
        """A step of the epoch is done, the ``step``-th; the gradients are still those of that step."""
        if not self.layers:
            return
        if self._before is not None:
            flips = _changed(self._before, self._bits())
            sizes = torch.stack([_gradient_norm(layer.weight) for layer in self.layers.values()])
            good = torch.isfinite(sizes).all()  # a loss scaler leaves out steps whose gradients are not finite
            self._sums += torch.where(good, torch.stack([flips, sizes]), 0)
            self._samples += good
        self._before = self._bits() if step % EVERY == 0 else None

    def epoch(self) -> dict[str, dict[str, float]]:
        """An epoch is done: what it was like, each measure by the name of the layer; empty without binary layers.

        =====================  ====================================================================================
        flip_ratio_step        share of signs that one step changed, mean over the steps looked at
        flip_ratio_epoch       share of signs that are not what they were when the epoch began
        gradient_norm          Euclidean norm of the gradient of the latent weights, mean over the steps looked at
        quantization_error     ``mean |sin(ω w) - q(w)|``, at the end
        sign_angle             between the wave and its signs, in degrees, at the end
        =====================  ====================================================================================
        """
        if not self.layers:
            return {}
        flips, sizes = (self._sums / self._samples.clamp(min=1)).tolist()
        changed = _changed(self._first, self._bits()).tolist()
        row = {
            "flip_ratio_step": dict(zip(self.layers, flips, strict=True)),
            "flip_ratio_epoch": dict(zip(self.layers, changed, strict=True)),
            "gradient_norm": dict(zip(self.layers, sizes, strict=True)),
        }
        if errors := error_table(self.model):
            row["quantization_error"] = {error.layer: error.quantization_error for error in errors}
            row["sign_angle"] = {error.layer: error.sign_angle for error in errors}
        self._begin()
        self._before = self._first
        return row

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep, so that a resumed epoch is reported as one that was never stopped."""
        packed = {
            f"{PREFIX}signs/{name}": torch.from_numpy(np.packbits(bits.cpu().numpy()))
            for name, bits in zip(self.layers, self._first, strict=True)
        }
        return {**packed, PREFIX + "sums": self._sums, PREFIX + "samples": self._samples}

    def _begin(self) -> None:
        self._first = self._bits()
        device = self._first[0].device if self._first else None
        self._sums = torch.zeros(2, len(self.layers), dtype=torch.float64, device=device)
        self._samples = torch.zeros((), dtype=torch.float64, device=device)

    def _restore(self, saved: Mapping[str, Tensor]) -> None:
        self._sums.copy_(saved[PREFIX + "sums"])
        self._samples.copy_(saved[PREFIX + "samples"])
        for name, bits in zip(self.layers, self._first, strict=True):
            packed = saved[f"{PREFIX}signs/{name}"].numpy()
            flat = np.unpackbits(packed, count=bits.numel()).astype(np.bool_)
            bits.copy_(torch.from_numpy(flat).view(bits.shape))

    def _bits(self) -> list[Tensor]:
        return [weight_bits(layer) for layer in self.layers.values()]


def _changed(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """The share of bits that differ, layer by layer, (layers,) float64."""
    return torch.stack([torch.count_nonzero(a != b) / a.numel() for a, b in zip(before, after, strict=True)]).double()


def _gradient_norm(weight: Tensor) -> Tensor:
    gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
    return torch.linalg.vector_norm(gradient).double()


def sign_agreement(one: nn.Module, other: nn.Module) -> dict[str, float]:
    """The share of weights with the same sign in two models, by layer.

    Raises:
        ModelError: their binary layers have other names or shapes.
    """
    before, after = binary_layers(one), binary_layers(other)
    shapes = [{name: tuple(layer.weight.shape) for name, layer in layers.items()} for layers in (before, after)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"signs of different networks cannot be compared: {len(before)} and {len(after)} binary layers"
        )
    return {name: (weight_bits(before[name]) == weight_bits(after[name])).double().mean().item() for name in before}


def stage_agreement(model: nn.Module) -> dict[str, float]:
    """The share of weights whose value in stage 2 has the sign of their value in stage 1, by layer.

    Of the model that stage 1 ended with, these are the initial signs of stage 2. From what the layers' own quantizers
    give in each stage; the model is left as it was.
    """
    shares = {}
    with torch.no_grad():
        for name, layer in binary_layers(model).items():
            quantizer = copy.deepcopy(layer.weight_quantizer)
            relaxed, binary = (set_stage_(quantizer, stage)(layer.weight) for stage in Stage)
            shares[name] = ((relaxed >= 0) == (binary >= 0)).double().mean().item()
    return shares


def over_training(rows: list[dict[str, Any]], measure: str) -> dict[str, list[tuple[int, float]]]:
    """A measure of `Watch.epoch` from rows of metrics.jsonl: by layer, (epoch counted through both stages, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for number, row in enumerate(rows, 1):
        for layer, value in row.get(measure, {}).items():
            found.setdefault(layer, []).append((number, value))
    return found
