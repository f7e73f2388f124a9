"""Measuring the binary layers of a network while it trains: flips of signs, gradients and quantization errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from biper.measure.quantization_error import error_rows
from biper.measure.weights import weight_bits
from biper.nn import binary_layers

EVERY = 20
"""Every twentieth step is measured. Measuring costs a small share of a step, so that training is hardly slower."""

PREFIX = "watch/"
"""The prefix of the names under which a checkpoint keeps the state of a `LayerMonitor`. Released files have it."""


@dataclass(frozen=True)
class LayerMeasures:
    """What was measured of the binary layers in one epoch: each measure by the name of the layer.

    A network without binary layers has no measures, and one without periodic layers has neither of the last two.

    Attributes:
        flip_ratio_step: share of signs that one step changed, mean over the measured steps.
        flip_ratio_epoch: share of signs that differ from those at the beginning of the epoch.
        gradient_norm: Euclidean norm of the gradient of the latent weights, mean over the measured steps.
        quantization_error: ``mean |sin(ω w) - q(w)|`` at the end of the epoch.
        sign_angle: angle between the wave and its signs at the end of the epoch, in degrees.
    """

    flip_ratio_step: Mapping[str, float] = field(default_factory=dict)
    flip_ratio_epoch: Mapping[str, float] = field(default_factory=dict)
    gradient_norm: Mapping[str, float] = field(default_factory=dict)
    quantization_error: Mapping[str, float] = field(default_factory=dict)
    sign_angle: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the measures."""
        return tuple(each.name for each in dataclasses.fields(cls))

    def to_json(self) -> dict[str, dict[str, float]]:
        """The measures that are not empty, by their names."""
        found = {name: getattr(self, name) for name in self.names()}
        return {name: dict(values) for name, values in found.items() if values}


class LayerMonitor:
    """Measures the binary layers of a model through the steps of each epoch.

    The first step of an epoch and every twentieth after it are measured. The sums stay on the device of the model until
    the epoch ends, so that no step waits for the device.

    Args:
        model: the model as it stands before the next step, on its device.
        saved: the tensors of a checkpoint; the monitor continues from what `state` put there.
        step: how many steps of the epoch are done.
    """

    def __init__(self, model: nn.Module, saved: Mapping[str, Tensor] | None = None, step: int = 0) -> None:
        self.model, self.layers = model, binary_layers(model)
        self._begin_epoch()
        if saved is not None and PREFIX + "samples" in saved:
            self._restore(saved)
        self._bits_before = self._bits() if step % EVERY == 0 else None

    def end_step(self, step: int) -> None:
        """Measure a step that was just done; the layers still hold the gradients of that step.

        Args:
            step: its number within the epoch, counted from 1.
        """
        if not self.layers:
            return
        if self._bits_before is not None:
            flips = _share_changed(self._bits_before, self._bits())
            norms = torch.stack([_gradient_norm(layer.weight) for layer in self.layers.values()])
            good = torch.isfinite(norms).all()  # a loss scaler leaves out steps whose gradients are not finite
            self._sums += torch.where(good, torch.stack([flips, norms]), 0)
            self._samples += good
        self._bits_before = self._bits() if step % EVERY == 0 else None

    def end_epoch(self) -> LayerMeasures:
        """The measures of the epoch that was just done; the next epoch begins."""
        if not self.layers:
            return LayerMeasures()
        flips, norms = (self._sums / self._samples.clamp(min=1)).tolist()
        changed = _share_changed(self._first_bits, self._bits()).tolist()
        errors = error_rows(self.model)
        measures = LayerMeasures(
            flip_ratio_step=dict(zip(self.layers, flips, strict=True)),
            flip_ratio_epoch=dict(zip(self.layers, changed, strict=True)),
            gradient_norm=dict(zip(self.layers, norms, strict=True)),
            quantization_error={error.layer: error.quantization_error for error in errors},
            sign_angle={error.layer: error.sign_angle for error in errors},
        )
        self._begin_epoch()
        self._bits_before = self._first_bits
        return measures

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint must keep, so that a resumed epoch gives the measures of an unbroken one."""
        packed = {
            f"{PREFIX}signs/{name}": torch.from_numpy(np.packbits(bits.cpu().numpy()))
            for name, bits in zip(self.layers, self._first_bits, strict=True)
        }
        return {**packed, PREFIX + "sums": self._sums, PREFIX + "samples": self._samples}

    def _begin_epoch(self) -> None:
        self._first_bits = self._bits()
        device = self._first_bits[0].device if self._first_bits else None
        self._sums = torch.zeros(2, len(self.layers), dtype=torch.float64, device=device)
        self._samples = torch.zeros((), dtype=torch.float64, device=device)

    def _restore(self, saved: Mapping[str, Tensor]) -> None:
        self._sums.copy_(saved[PREFIX + "sums"])
        self._samples.copy_(saved[PREFIX + "samples"])
        for name, bits in zip(self.layers, self._first_bits, strict=True):
            packed = saved[f"{PREFIX}signs/{name}"].numpy()
            flat = np.unpackbits(packed, count=bits.numel()).astype(np.bool_)
            bits.copy_(torch.from_numpy(flat).view(bits.shape))

    def _bits(self) -> list[Tensor]:
        return [weight_bits(layer) for layer in self.layers.values()]


def _share_changed(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """The share of bits that differ, layer by layer, (layers,) float64."""
    return torch.stack([torch.count_nonzero(a != b) / a.numel() for a, b in zip(before, after, strict=True)]).double()


def _gradient_norm(weight: Tensor) -> Tensor:
    """The Euclidean norm of the gradient of a weight, a float64 scalar; 0 without a gradient."""
    gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return norm.double()
