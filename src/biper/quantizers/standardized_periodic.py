"""The periodic function of BiPer over standardized weights: the user sets the deviation of the phase."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biper.errors import ModelError
from biper.fast import weights as kernels
from biper.quantizers.channels import channel_dims
from biper.quantizers.periodic import Stage
from biper.quantizers.tuned_periodic import TunedPeriodicSign, Wave

PhaseMean = Literal["removed", "kept"]
"""Whether the mean of a group of weights is taken off before they are divided by their standard deviation."""

PhaseGroup = Literal["channel", "layer"]
"""The weights that are standardized together: those of one output channel, or all weights of a layer."""


class _Standardize(torch.autograd.Function):
    """Weights divided by the deviation of their group, in native kernels; see `biper.fast.weights.standardize`.

    With ``v`` the result, ``v' = v - mean(v)``, ``h`` the gradient by ``v`` and groups of ``n`` weights, the gradient
    is ``(h - mean(h) - v' sum(h v) / (n - 1)) / std``, without the mean of ``h`` if the mean of the weights is kept.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, groups: int, centred: bool) -> Tensor:
        standard, inverse = kernels.standardize(weight.detach(), groups, centred)
        ctx.save_for_backward(standard, inverse)
        ctx.centred = centred
        return standard

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        standard, inverse = ctx.saved_tensors
        if grad.stride() != standard.stride():
            grad = torch.empty_like(standard).copy_(grad)
        return kernels.standardize_backward(standard, inverse, grad, ctx.centred), None, None


_standardize: Callable[[Tensor, int, bool], Tensor] = _Standardize.apply


class StandardizedPeriodicSign(TunedPeriodicSign):
    r"""`TunedPeriodicSign` whose phase has a standard deviation σ that the user sets.

    The phase of a latent weight ``w``, with the mean and the standard deviation of its group of ``n`` weights:

        φ = σ (w - mean) / std     with std² = sum (w - mean)² / (n - 1)
        φ = σ w / std              with mean="kept"

    Forward and the gradient by φ are those of `TunedPeriodicSign`:

        stage "relaxed" (1): wave(φ), or tanh(k wave(φ)) / tanh(k) with a sharpness k > 0
        stage "binary" (2):  +1 if sin φ >= 0 else -1
        gradient by φ:       cos φ for the sine, (2 / π) sign(cos φ) for the triangle

    The gradient by ``w`` is exact: it goes through the mean and the standard deviation. With ``h`` the gradient by φ,
    ``v = (w - mean) / std`` and means and sums over the group:

        σ / std * (h - mean(h) - v sum(h v) / (n - 1))         with the mean removed
        σ / std * (h - v sum(h w / std) / (n - 1))             with the mean kept

    In stage 2 it is therefore the gradient of the sine of the standardized phase.

    The frequency of a group is ``ω = σ / std``, in radians per unit of weight. The phase does not change if all weights
    of a group are multiplied by a positive number, so neither do the bits, the wave and its quantization error; with
    the mean removed, the sum of the gradient over a group is 0, and so is the sum of the gradient times ``w``.

    A group of equal weights has no deviation: its phases and their gradients are 0. The mean and the deviation are
    summed in float64, so that the order of the sums, which depends on the machine, does not change the bits.

    The state dict holds ``phase_deviation`` (the current σ under the schedule), ``phase_deviation_start``,
    ``sharpness``, ``stage`` and the parameter of a learned σ. Weights and σ together give the bits.

    Args:
        phase_deviation: σ at the start, in radians; a positive finite number.
        stage: ``"relaxed"`` or ``"binary"`` (or 1 or 2).
        mean: ``"removed"`` or ``"kept"``.
        group: ``"channel"`` or ``"layer"``: which weights are standardized together.
        wave: ``"sine"`` or ``"triangle"``.
        phase_deviation_end: σ at the end of stage 1, in radians; σ moves to it geometrically. None leaves σ as it is.
        sharpen_from: the finished fraction of stage 1 at which the wave begins to sharpen; None never sharpens it.
        learned_deviations: the number of parameters θ of ``σ exp(θ)``: 0, 1 for the layer, or one for each output
            channel.

    Raises:
        ModelError: a deviation is not a positive finite number, there is no such stage, mean or group.

    Source: this project; the wave is that of Vargas et al., "BiPer: Binary Neural Networks using a Periodic Function",
    CVPR 2024.
    """

    saved_numbers = ("phase_deviation", "phase_deviation_start", "sharpness")
    has_fixed_frequency = False

    def __init__(
        self,
        phase_deviation: float = 1.5,
        stage: Stage | str | int = Stage.RELAXED,
        *,
        mean: PhaseMean = "removed",
        group: PhaseGroup = "channel",
        wave: Wave = "sine",
        phase_deviation_end: float | None = None,
        sharpen_from: float | None = None,
        learned_deviations: int = 0,
    ) -> None:
        for name, value in (("phase_deviation", phase_deviation), ("phase_deviation_end", phase_deviation_end)):
            if value is not None:
                _require_positive(name, value)
        if mean not in ("removed", "kept"):
            raise ModelError(f'mean must be "removed" or "kept", got {mean!r}')
        if group not in ("channel", "layer"):
            raise ModelError(f'group must be "channel" or "layer", got {group!r}')
        super().__init__(
            phase_deviation,
            stage,
            wave=wave,
            frequency_end=phase_deviation_end,
            sharpen_from=sharpen_from,
            learned_frequencies=learned_deviations,
        )
        self.mean: PhaseMean = mean
        self.group: PhaseGroup = group

    @property
    def phase_deviation(self) -> float:
        """σ, in radians. It is the ``frequency`` of the wave over standardized weights, whose deviation is 1."""
        return self.frequency

    @phase_deviation.setter
    def phase_deviation(self, value: float) -> None:
        _require_positive("phase_deviation", value)
        self.frequency = value

    @property
    def phase_deviation_start(self) -> float:
        """The first σ of the schedule, in radians."""
        return self.frequency_start

    @phase_deviation_start.setter
    def phase_deviation_start(self, value: float) -> None:
        _require_positive("phase_deviation_start", value)
        self.frequency_start = value

    def phase(self, weight: Tensor) -> Tensor:
        """Compute the phase φ, in radians, of a latent weight (out, ...), in its shape and dtype.

        Raises:
            ModelError: a group has fewer than two weights, so that it has no deviation.
        """
        return super().phase(self._standardized(weight))

    def frequency_of(self, weight: Tensor) -> Tensor:
        """Compute ``ω = σ / std``, in radians per unit of weight, of the groups of a latent weight (out, ...).

        Returns:
            A float64 tensor that broadcasts with the weight. It is 0 for a group of equal weights.
        """
        _, inverse = self._mean_and_inverse_deviation(weight.detach().double())
        return super().frequency_of(weight) * inverse

    def _standardized(self, weight: Tensor) -> Tensor:
        """Compute ``(w - mean) / std`` or ``w / std``, in the shape and dtype of the weight."""
        centred = self.mean == "removed"
        if kernels.fits_weights(weight):
            self._groups(weight)
            return _standardize(weight, len(weight) if self.group == "channel" else 1, centred)
        mean, inverse = self._mean_and_inverse_deviation(weight)
        return (weight - mean) * inverse if centred else weight * inverse

    def _groups(self, weight: Tensor) -> tuple[tuple[int, ...], int]:
        """The dimensions of the weight over which a group extends, and how many weights a group has.

        Raises:
            ModelError: a group has fewer than two weights.
        """
        dims = channel_dims(weight) if self.group == "channel" else tuple(range(weight.dim()))
        count = math.prod(weight.shape[dim] for dim in dims)
        if count < 2:
            raise ModelError(
                f"a standardized phase needs at least two weights in each {self.group}, got a weight of shape "
                f'{tuple(weight.shape)}: standardize by group="layer", or use a frequency'
            )
        return dims, count

    def _mean_and_inverse_deviation(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and ``1 / std`` of each group, in the dtype of the weight; ``1 / std`` is 0 where std is 0."""
        dims, count = self._groups(weight)
        mean = weight.mean(dims, keepdim=True, dtype=torch.float64)
        centred = weight - mean.to(weight.dtype)
        variance = centred.square().sum(dims, keepdim=True, dtype=torch.float64) / (count - 1)
        varies = variance > (torch.finfo(weight.dtype).eps * mean).square()  # below it there is only rounding
        inverse = torch.where(varies, torch.where(varies, variance, 1.0).rsqrt(), 0.0)
        return mean.to(weight.dtype), inverse.to(weight.dtype)

    def extra_repr(self) -> str:
        end = "" if self.frequency_end is None else f", phase_deviation_end={self.frequency_end:g}"
        sharpen = "" if self.sharpen_from is None else f", sharpen_from={self.sharpen_from:g}"
        learned = "" if self.log_gain is None else f", learned_deviations={len(self.log_gain)}"
        options = f'mean="{self.mean}", group="{self.group}", wave="{self.wave}"{end}{sharpen}{learned}'
        return f'phase_deviation={self.phase_deviation:g}, stage="{self.stage}", {options}'


def _require_positive(name: str, value: float) -> None:
    """Raises ModelError: the value is not a positive finite number."""
    if not 0 < value < math.inf:
        raise ModelError(f"{name} must be a positive finite number, got {value!r}")
