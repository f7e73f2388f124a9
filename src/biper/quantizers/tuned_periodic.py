"""The periodic function of BiPer with options for what the paper leaves fixed: wave, frequency and transition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.errors import ModelError
from biper.quantizers.base import sign
from biper.quantizers.periodic import DEFAULT_FREQUENCY, PeriodicSign, Stage

Wave = Literal["sine", "triangle"]
"""The shape of the wave."""

FULL_SHARPNESS = 10.0
"""The sharpness k at the end of stage 1. ``tanh(k wave) / tanh(k)`` is then within 0.1 of the sign of the wave where
``|wave| > 0.15``."""

_NO_SHARPNESS = 1e-3
"""Below this sharpness the wave is not sharpened: ``tanh(k wave) / tanh(k)`` differs from it by 4e-7 at most."""

LARGEST_LOG_GAIN = 1.5
"""The limit of ``|θ|``. A learned ω stays between 0.22 and 4.5 times its ``frequency``."""


class TunedPeriodicSign(PeriodicSign):
    r"""`PeriodicSign` with a choice of the wave, of the frequency and of the transition between the stages.

    Forward, with the phase ``φ = ω w`` and ``wave(φ)`` either ``sin φ`` or the triangle of the same period,
    ``(2 / π) asin(sin φ)``:

        stage "relaxed" (1): wave(φ), or tanh(k wave(φ)) / tanh(k) with a sharpness k > 0
        stage "binary" (2):  +1 if sin φ >= 0 else -1

    Gradient used by φ, in both stages and for any sharpness:

        cos φ                  for the sine
        (2 / π) sign(cos φ)    for the triangle

    With ``sharpen_from = s``, the sharpness k rises linearly from 0 to 10 while the finished fraction of stage 1 goes
    from s to 1, so that the wave gradually becomes the square wave of stage 2.

    With ``frequency_end``, ω moves geometrically from ``frequency`` to ``frequency_end`` over stage 1.

    With ``learned_frequencies``, ``ω = frequency * exp(θ)`` with a parameter θ (``log_gain``) for the layer or for each
    output channel, which starts at 0. Its gradient is ``sum(g wave'(φ) φ) / sqrt(n)`` over the ``n`` weights that
    share it; without the division, the number of weights would set its learning rate. The gradient grows with φ, so
    that one step could move an unlimited θ too far to come back. Therefore ``|θ| <= 1.5`` always holds: `set_progress`
    clamps the parameter before each step.

    The state dict holds ``frequency`` (its current value under the schedule), ``frequency_start``, ``sharpness``,
    ``stage`` and the parameter.

    Args:
        frequency: ω at the start, in radians per unit of weight; a positive finite number.
        stage: ``"relaxed"`` or ``"binary"`` (or 1 or 2).
        wave: ``"sine"`` or ``"triangle"``.
        frequency_end: ω at the end of stage 1, in radians per unit of weight; None leaves ω as it is.
        sharpen_from: the finished fraction of stage 1, from 0 to below 1, at which the wave begins to sharpen; None
            never sharpens it.
        learned_frequencies: the number of parameters θ: 0, 1 for the layer, or one for each output channel.

    Raises:
        ModelError: a frequency is not a positive finite number, or there is no such stage.

    Source: this project; the published function is `PeriodicSign`.
    """

    saved_numbers = ("frequency", "frequency_start", "sharpness")

    def __init__(
        self,
        frequency: float = DEFAULT_FREQUENCY,
        stage: Stage | str | int = Stage.RELAXED,
        *,
        wave: Wave = "sine",
        frequency_end: float | None = None,
        sharpen_from: float | None = None,
        learned_frequencies: int = 0,
    ) -> None:
        super().__init__(frequency, stage)
        if frequency_end is not None and not 0 < frequency_end < math.inf:
            raise ModelError(f"frequency_end must be a positive finite number, got {frequency_end!r}")
        self.wave, self.frequency_end, self.sharpen_from = wave, frequency_end, sharpen_from
        self.frequency_start = self.frequency
        self.sharpness = 0.0
        self.has_fixed_frequency = learned_frequencies == 0 and type(self).has_fixed_frequency
        self.log_gain = nn.Parameter(torch.zeros(learned_frequencies)) if learned_frequencies else None
        self._on_device: tuple[Tensor, Tensor] | None = None

    def set_start_frequency(self, frequency: float) -> None:
        """Set ω, and with it the first ω of the schedule, before training.

        Args:
            frequency: ω, in radians per unit of weight.

        Raises:
            ModelError: the frequency is not a positive finite number.
        """
        self.frequency = self.frequency_start = frequency

    def set_progress(self, fraction: float) -> None:
        """Set ω and the sharpness for a finished fraction of stage 1, and clamp learned parameters.

        In stage 2, ω and the sharpness stay as they are.

        Args:
            fraction: the finished share of the stage's steps, above 0 and up to 1.
        """
        super().set_progress(fraction)
        if self.log_gain is not None:
            with torch.no_grad():
                self.log_gain.clamp_(-LARGEST_LOG_GAIN, LARGEST_LOG_GAIN)
        if self.stage is not Stage.RELAXED:
            return
        if self.frequency_end is not None:
            self.frequency = self.frequency_start * (self.frequency_end / self.frequency_start) ** fraction
        if self.sharpen_from is not None:
            done = (fraction - self.sharpen_from) / max(1 - self.sharpen_from, 1e-9)
            self.sharpness = FULL_SHARPNESS * min(max(done, 0.0), 1.0)
        if self._on_device is not None:
            self._on_device[0].fill_(self.frequency)
            self._on_device[1].fill_(self.sharpness)

    def keep_numbers_on(self, device: torch.device | None) -> None:
        """Let the functions below read ω and the sharpness from the memory of a device, where they change in stage 1.

        `set_progress` writes them there without waiting for the device. Kernels that were recorded once
        (`biper.training.recorded`) then compute with the numbers of the current step. With None, they are Python
        numbers again.
        """
        changes = self.frequency_end is not None or self.sharpen_from is not None
        self._on_device = None
        if device is not None and changes and self.stage is Stage.RELAXED:
            frequency, sharpness = torch.tensor([self.frequency, self.sharpness], dtype=torch.float64, device=device)
            self._on_device = frequency, sharpness

    def frequencies(self) -> Tensor:
        """Compute the current ω: a scalar, or a vector with one number for each learned frequency; float64."""
        gain = torch.zeros(()) if self.log_gain is None else self.log_gain.detach()
        return self.frequency * gain.double().clamp(-LARGEST_LOG_GAIN, LARGEST_LOG_GAIN).exp()

    def frequency_of(self, weight: Tensor) -> Tensor:
        """Compute the ω that a latent weight (out, ...) has; see `PeriodicSign.frequency_of`."""
        frequencies = self.frequencies().to(weight.device)
        return frequencies.view(-1, *[1] * (weight.dim() - 1)) if frequencies.dim() else frequencies

    def phase(self, weight: Tensor) -> Tensor:
        """Compute the phase ``ω w``, in radians, of a latent weight (out, ...), with the gradient of a learned ω."""
        phase = super().phase(weight) if self._on_device is None else weight * self._on_device[0]
        if self.log_gain is None:
            return phase
        shared = weight.numel() // len(self.log_gain)
        gain = _scaled_gradient(self.log_gain, shared**-0.5).clamp(-LARGEST_LOG_GAIN, LARGEST_LOG_GAIN)
        return phase * gain.exp().to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``wave(ω w)``, not sharpened, in both stages, for a latent weight (out, ...)."""
        return _wave(self.phase(x), self.wave)

    def forward(self, weight: Tensor) -> Tensor:
        """Compute the wave of a latent weight (out, ...), or its signs, in the shape and dtype of the weight."""
        sharpness: float | Tensor = math.inf
        if self.stage is Stage.RELAXED:
            sharpness = self.sharpness if self._on_device is None else self._on_device[1]
        return _wave_function(self.phase(weight), self.wave, sharpness)

    def extra_repr(self) -> str:
        end = "" if self.frequency_end is None else f", frequency_end={self.frequency_end:g}"
        sharpen = "" if self.sharpen_from is None else f", sharpen_from={self.sharpen_from:g}"
        learned = "" if self.log_gain is None else f", learned_frequencies={len(self.log_gain)}"
        return f'{super().extra_repr()}, wave="{self.wave}"{end}{sharpen}{learned}'


def _wave(phase: Tensor, wave: Wave) -> Tensor:
    sine = torch.sin(phase)
    return sine if wave == "sine" else torch.asin(sine) * (2 / math.pi)


class _WaveFunction(torch.autograd.Function):
    """The sharpened wave of φ, or its sign if the sharpness is infinite. The gradient is that of the plain wave."""

    @staticmethod
    def forward(ctx: Any, phase: Tensor, wave: Wave, sharpness: float | Tensor) -> Tensor:
        ctx.save_for_backward(phase)
        ctx.wave = wave
        value = _wave(phase, wave)
        if isinstance(sharpness, Tensor):  # it is not read, so that its size decides nothing
            steepness = sharpness.clamp(min=_NO_SHARPNESS)
            return torch.tanh(steepness * value) / torch.tanh(steepness)
        if sharpness == math.inf:
            return sign(torch.sin(phase))
        return value if sharpness < _NO_SHARPNESS else torch.tanh(sharpness * value) / math.tanh(sharpness)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (phase,) = ctx.saved_tensors
        slope = torch.cos(phase)
        return grad * (slope if ctx.wave == "sine" else sign(slope) * (2 / math.pi)), None, None


_wave_function: Callable[[Tensor, Wave, float | Tensor], Tensor] = _WaveFunction.apply


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


_scaled_gradient: Callable[[Tensor, float], Tensor] = _ScaledGradient.apply
