"""The binary periodic function of BiPer, and the two stages that it has."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from biper.errors import CheckpointError, ModelError
from biper.fast import weights as kernels
from biper.quantizers.base import Quantizer, sign


class Stage(StrEnum):
    """The two training stages of BiPer: which forward pass a `PeriodicSign` uses."""

    RELAXED = "relaxed"
    BINARY = "binary"

    @classmethod
    def of(cls, value: Stage | str | int) -> Stage:
        """Read a stage given as a member, its name, or its number (1 or 2).

        Raises:
            ModelError: the value names no stage.
        """
        stages = {1: cls.RELAXED, 2: cls.BINARY, "relaxed": cls.RELAXED, "binary": cls.BINARY}
        if value not in stages or isinstance(value, bool):
            raise ModelError(f'stage must be "relaxed" (1) or "binary" (2), got {value!r}')
        return stages[value]


class _PeriodicSignFunction(torch.autograd.Function):
    """sin(ω w) or its sign; gradient ω cos(ω w) for both. Saves ``w`` itself, which is alive anyway."""

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


class PeriodicSign(Quantizer):
    r"""The binary periodic function of BiPer: a square wave forward, the sine of the same period backward.

    ==================  =============================  ================
    stage               forward                        gradient
    ==================  =============================  ================
    ``"relaxed"`` (1)   sin(ω w)                       ω cos(ω w)
    ``"binary"`` (2)    +1 if sin(ω w) >= 0 else -1    ω cos(ω w)
    ==================  =============================  ================

    ``frequency`` and ``stage`` are plain Python attributes, so that no cast of the model (`half`,
    `bfloat16`) rounds them, and are saved in the state dict as ``frequency`` (float64) and ``stage``
    (uint8, 1 or 2): a weight means nothing without the frequency it was trained with.

    Args:
        frequency: ω, in radians per unit of weight; finite and positive.
        stage: ``"relaxed"`` or ``"binary"`` (or 1, 2).

    Raises:
        ModelError: the frequency is not a positive finite number, or the stage does not exist.

    Source: Vargas et al., "Biper: Binary Neural Networks using a Periodic Function", CVPR 2024, section 3.
    """

    saved_numbers: ClassVar[tuple[str, ...]] = ("frequency",)
    """Attributes that are saved in the state dict as float64, beside the stage."""

    learns_frequency = False
    """Whether ω has a gradient of its own."""

    def __init__(self, frequency: float = 20.0, stage: Stage | str | int = Stage.RELAXED) -> None:
        super().__init__()
        self.frequency = frequency
        self.stage = Stage.of(stage)

    @property
    def frequency(self) -> float:
        """ω, in radians per unit of weight."""
        return self._frequency

    @frequency.setter
    def frequency(self, value: float) -> None:
        if not math.isfinite(value) or value <= 0:
            raise ModelError(f"frequency must be a positive finite number, got {value!r}")
        self._frequency = float(value)

    @property
    def gives_signs(self) -> bool:
        """In stage 2."""
        return self.stage is Stage.BINARY

    def phase(self, weight: Tensor) -> Tensor:
        """``ω w``, in radians."""
        return weight * self._frequency

    def real(self, x: Tensor) -> Tensor:
        """``sin(ω w)``, in both stages."""
        return torch.sin(self.phase(x))

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a floating-point tensor of any shape."""
        return _PeriodicSignFunction.apply(weight, self._frequency, self.stage)

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
                    setattr(self, name, Stage.of(int(value)) if name == "stage" else float(value))
        except ModelError as error:
            raise CheckpointError(f"{prefix.rstrip('.')}: {error}") from error
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
