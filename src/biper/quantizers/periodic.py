"""The binary periodic function of BiPer and its two training stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from biper.errors import CheckpointError, ModelError
from biper.fast import weights as kernels
from biper.quantizers.base import Quantizer, sign

DEFAULT_FREQUENCY = 20.0
"""ω in the experiments of the paper, in radians per unit of latent weight."""


class Stage(StrEnum):
    """The two training stages of BiPer. The stage selects the forward function of a `PeriodicSign`."""

    RELAXED = "relaxed"
    """Stage 1: the forward function is the smooth wave."""
    BINARY = "binary"
    """Stage 2: the forward function is the sign of the wave."""

    @classmethod
    def of(cls, value: Stage | str | int) -> Stage:
        """Convert a stage that is given as a member, a name or a number.

        Args:
            value: a `Stage`, ``"relaxed"``, ``"binary"``, 1 or 2.

        Returns:
            The member.

        Raises:
            ModelError: there is no such stage.
        """
        stages = {1: cls.RELAXED, 2: cls.BINARY, "relaxed": cls.RELAXED, "binary": cls.BINARY}
        if value not in stages or isinstance(value, bool):
            raise ModelError(f'stage must be "relaxed" (1) or "binary" (2), got {value!r}')
        return stages[value]


class _PeriodicSignFunction(torch.autograd.Function):
    """``sin(ω w)`` or its sign, with the gradient ``ω cos(ω w)``. It saves ``w``, which is kept in memory anyway."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, frequency: float, stage: Stage) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.frequency = frequency
        wave = torch.mul(weight, frequency).sin_()
        return wave if stage is Stage.RELAXED else sign(wave)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if kernels.fits_weights(weight, grad) and not torch.is_grad_enabled():
            return kernels.wave_gradient(weight, grad, ctx.frequency), None, None
        return grad * (ctx.frequency * torch.cos(ctx.frequency * weight)), None, None


_periodic_sign: Callable[[Tensor, float, Stage], Tensor] = _PeriodicSignFunction.apply


class PeriodicSign(Quantizer):
    r"""The binary periodic function of BiPer: a square wave whose gradient is that of the sine of the same period.

    Forward, for a latent weight ``w`` and the frequency ω:

        stage "relaxed" (1): sin(ω w)
        stage "binary" (2):  +1 if sin(ω w) >= 0 else -1

    Gradient used, in both stages:

        ω cos(ω w)

    ``frequency`` and ``stage`` are plain Python attributes, so that no cast of the model (``half()``, ``bfloat16()``)
    rounds them. The state dict holds them as ``frequency`` (float64) and ``stage`` (uint8, 1 or 2), because a latent
    weight has no meaning without the frequency that it was trained with.

    Args:
        frequency: ω, in radians per unit of weight; a positive finite number.
        stage: ``"relaxed"`` or ``"binary"`` (or 1 or 2).

    Raises:
        ModelError: the frequency is not a positive finite number, or there is no such stage.

    Source: Vargas et al., "BiPer: Binary Neural Networks using a Periodic Function", CVPR 2024, section 3.
    """

    saved_numbers: ClassVar[tuple[str, ...]] = ("frequency",)
    """The attributes that the state dict holds as float64 numbers, beside the stage."""

    has_fixed_frequency = True
    """Whether the phase is ``frequency * weight`` with the number ``frequency``. It is not where a parameter or the
    weights themselves set ω. The native kernels for the wave and the penalty take such a number."""

    def __init__(self, frequency: float = DEFAULT_FREQUENCY, stage: Stage | str | int = Stage.RELAXED) -> None:
        super().__init__()
        self.frequency = frequency
        self.stage = stage

    @property
    def stage(self) -> Stage:
        """The training stage; a member of `Stage`, its name or its number can be assigned."""
        return self._stage

    @stage.setter
    def stage(self, value: Stage | str | int) -> None:
        self._stage = Stage.of(value)

    @property
    def frequency(self) -> float:
        """ω, in radians per unit of weight; only a positive finite number can be assigned."""
        return self._frequency

    @frequency.setter
    def frequency(self, value: float) -> None:
        if not math.isfinite(value) or value <= 0:
            raise ModelError(f"frequency must be a positive finite number, got {value!r}")
        self._frequency = float(value)

    @property
    def gives_scaled_signs(self) -> bool:
        """Whether the stage is ``"binary"``."""
        return self.stage is Stage.BINARY

    def phase(self, weight: Tensor) -> Tensor:
        """Compute the phase ``ω w``, in radians, for a latent weight of any shape."""
        return weight * self._frequency

    def frequency_of(self, weight: Tensor) -> Tensor:
        """Compute the ω that a latent weight (out, ...) has, in radians per unit of weight, without a gradient.

        Returns:
            A float64 tensor that broadcasts with the weight: one number for the layer, or one for each output channel.
        """
        return torch.tensor(self._frequency, dtype=torch.float64, device=weight.device)

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``sin(ω w)``, in both stages, for a latent weight of any shape."""
        return torch.sin(self.phase(x))

    def forward(self, weight: Tensor) -> Tensor:
        """Compute the wave of a latent weight of any shape, or its signs, in the shape and dtype of the weight."""
        return _periodic_sign(weight, self._frequency, self.stage)

    def extra_repr(self) -> str:
        return f'frequency={self.frequency:g}, stage="{self.stage}"'

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.saved_numbers:
            destination[prefix + name] = torch.tensor(getattr(self, name), dtype=torch.float64)
        destination[prefix + "stage"] = torch.tensor(1 if self.stage is Stage.RELAXED else 2, dtype=torch.uint8)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        known = {key: state_dict.pop(prefix + key, None) for key in (*self.saved_numbers, "stage")}
        missing_keys.extend(prefix + key for key, value in known.items() if value is None)
        try:
            for name, value in known.items():
                if value is not None:
                    setattr(self, name, int(value) if name == "stage" else float(value))
        except ModelError as error:
            raise CheckpointError(f"{prefix.rstrip('.')}: {error}") from error
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
