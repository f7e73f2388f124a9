"""The periodic function with what the paper leaves fixed made a choice: wave, frequency and the switch of stages."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper.errors import ModelError
from biper.quantizers.base import sign
from biper.quantizers.periodic import PeriodicSign, Stage

Wave = Literal["sine", "triangle"]

FULL_SHARPNESS = 10.0
"""k at the end of stage 1: ``tanh(k wave) / tanh(k)`` is within 0.1 of its sign where ``|wave| > 0.15``."""

LARGEST_GAIN = 1.5
"""Of ``|θ|``: a learned ω stays within 0.22 to 4.5 times its ``frequency``."""


class TunedPeriodicSign(PeriodicSign):
    r"""`PeriodicSign` with a wave, a frequency and a transition of your choice.

    With ``φ = ω w``, ``wave(φ)`` is ``sin φ``, or the triangle of the same period, ``(2 / π) asin(sin φ)``:

    ==================  =======================================  ==================
    stage               forward                                  gradient by φ
    ==================  =======================================  ==================
    ``"relaxed"`` (1)   wave(φ), or tanh(k wave(φ)) / tanh(k)    wave'(φ)
    ``"binary"`` (2)    +1 if sin φ >= 0 else -1                 wave'(φ)
    ==================  =======================================  ==================

    with ``wave'`` either ``cos φ`` or ``(2 / π) sign(cos φ)``.

    *Sharpening*: with ``sharpen_from = s``, the sharpness k rises linearly from 0 to 10 while the share of stage 1 that
    is done goes from s to 1, so that the wave turns by degrees into the square one of stage 2.

    *Schedule*: with ``frequency_end``, ω moves geometrically from ``frequency`` to it over stage 1.

    *Learned*: ``ω = frequency * exp(θ)`` with a parameter θ (``log_gain``) of the layer or of each output channel,
    which starts at 0. Its gradient is ``sum(g wave'(φ) φ) / sqrt(n)`` over the ``n`` weights that share it: otherwise
    their number would set its learning rate. It grows with φ itself, so that a θ without limits may take one step from
    which it never comes back: ``|θ| <= 1.5``, whatever the optimizer makes of it (`set_progress` puts it back there).

    All of it is saved in the state dict: ``frequency`` (where the schedule stands), ``frequency_start``, ``sharpness``
    and ``stage``, and the parameter.

    Args:
        frequency, stage: as of `PeriodicSign`.
        wave: ``"sine"`` or ``"triangle"``.
        frequency_end: ω at the end of stage 1; None keeps it.
        sharpen_from: from which share of stage 1 on the wave sharpens, 0 up to 1; None never.
        learned_frequencies: how many θ to learn: 0, 1, or one for each output channel.

    Raises:
        ModelError: a frequency is not a positive finite number.
    """

    saved_numbers = ("frequency", "frequency_start", "sharpness")

    def __init__(
        self,
        frequency: float = 20.0,
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
        self.learns_frequency = learned_frequencies > 0
        self.log_gain = nn.Parameter(torch.zeros(learned_frequencies)) if learned_frequencies else None

    def start_at(self, frequency: float) -> None:
        """Set ω before training, the schedule's first one too."""
        self.frequency = self.frequency_start = frequency

    def set_progress(self, fraction: float) -> None:
        """Move ω and the sharpness to where they are at this share of stage 1; stage 2 leaves them."""
        super().set_progress(fraction)
        if self.log_gain is not None:
            with torch.no_grad():
                self.log_gain.clamp_(-LARGEST_GAIN, LARGEST_GAIN)
        if self.stage is not Stage.RELAXED:
            return
        if self.frequency_end is not None:
            self.frequency = self.frequency_start * (self.frequency_end / self.frequency_start) ** fraction
        if self.sharpen_from is not None:
            done = (fraction - self.sharpen_from) / max(1 - self.sharpen_from, 1e-9)
            self.sharpness = FULL_SHARPNESS * min(max(done, 0.0), 1.0)

    def frequencies(self) -> Tensor:
        """ω as it is used now: a number, or one for each output channel; float64."""
        gain = torch.zeros(()) if self.log_gain is None else self.log_gain.detach()
        return self.frequency * gain.double().clamp(-LARGEST_GAIN, LARGEST_GAIN).exp()

    def phase(self, weight: Tensor) -> Tensor:
        """``ω w``, in radians, with the gradient of a learned frequency."""
        phase = super().phase(weight)
        if self.log_gain is None:
            return phase
        shared = weight.numel() // len(self.log_gain)
        gain = _ScaledGradient.apply(self.log_gain, shared**-0.5).clamp(-LARGEST_GAIN, LARGEST_GAIN)
        return phase * gain.exp().to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))

    def real(self, x: Tensor) -> Tensor:
        """``wave(ω w)``, not sharpened, in both stages."""
        return _wave(self.phase(x), self.wave)

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        sharpness = math.inf if self.stage is Stage.BINARY else self.sharpness
        return _WaveFunction.apply(self.phase(weight), self.wave, sharpness)

    def extra_repr(self) -> str:
        end = "" if self.frequency_end is None else f", frequency_end={self.frequency_end:g}"
        sharpen = "" if self.sharpen_from is None else f", sharpen_from={self.sharpen_from:g}"
        learned = "" if self.log_gain is None else f", learned_frequencies={len(self.log_gain)}"
        return f'{super().extra_repr()}, wave="{self.wave}"{end}{sharpen}{learned}'


def _wave(phase: Tensor, wave: Wave) -> Tensor:
    sine = torch.sin(phase)
    return sine if wave == "sine" else torch.asin(sine) * (2 / math.pi)


class _WaveFunction(torch.autograd.Function):
    """The wave of φ, sharpened, or its sign if the sharpness is infinite; always the gradient of the plain wave."""

    @staticmethod
    def forward(ctx: Any, phase: Tensor, wave: Wave, sharpness: float) -> Tensor:
        ctx.save_for_backward(phase)
        ctx.wave = wave
        value = _wave(phase, wave)
        if sharpness == math.inf:
            return sign(torch.sin(phase))
        return value if sharpness < 1e-3 else torch.tanh(sharpness * value) / math.tanh(sharpness)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (phase,) = ctx.saved_tensors
        slope = torch.cos(phase)
        return grad * (slope if ctx.wave == "sine" else sign(slope) * (2 / math.pi)), None, None


class _ScaledGradient(torch.autograd.Function):
    """``x``; gradient ``factor * g``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None
