r"""Quantizers: functions to one bit, each with a gradient of its own.

A quantizer is a module without parameters. Its forward pass maps a real tensor to -1 and +1 (the sign
of zero is +1); its backward pass uses the gradient of a smooth or piecewise function instead, because
the true derivative of a sign is zero almost everywhere.

================  =====================================  ==========================================
quantizer         forward                                gradient used
================  =====================================  ==========================================
`PeriodicSign`    stage "relaxed": sin(ω w)              ω cos(ω w)
`PeriodicSign`    stage "binary": +1 if sin(ω w) >= 0    ω cos(ω w)
`ApproxSign`      +1 if x >= 0 else -1                   max(0, 2 - 2|x|)
`SteSign`         +1 if x >= 0 else -1                   1 if |x| <= 1 else 0
================  =====================================  ==========================================

Every quantizer keeps the shape, dtype, device and memory format of its input.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biper import kernels
from biper.errors import CheckpointError, ModelError

VARIANCE_EPSILON = 1e-5
"""Added to a sample's variance before the square root, so that a constant sample divides by no zero."""


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


def sign(x: Tensor) -> Tensor:
    """+1 where ``x >= 0`` and -1 elsewhere (so -1 for NaN), in the dtype of ``x``. Not differentiable."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


def sample_rows(x: Tensor) -> Tensor:
    """The (samples, values) matrix of a (samples, ...) tensor, values in the order of memory.

    A view for the contiguous and channels-last layouts. Per-sample arithmetic on it runs at the speed of memory,
    where broadcasting (samples, 1, 1, 1) over a channels-last tensor is ten times slower on a CPU.
    """
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def _in_layout_of(x: Tensor, other: Tensor) -> Tensor:
    """``other``, a tensor of the shape of ``x``, such that `sample_rows` has both in the same order."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return other.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `sample_rows`: ``rows`` in the shape and layout of ``like``."""
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = like.shape
        return rows.view(n, h, w, c).permute(0, 3, 1, 2)
    return rows.view(like.shape)


def per_sample_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each row, each (N, 1) for an (N, n) floating-point matrix.

    ``r = 1 / sqrt(var + 1e-5)`` with the unbiased variance, computed from the mean and the sum of
    squares: twenty times faster than `torch.var` on a CPU.
    """
    values = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    n = values.shape[1]
    mean = values.mean(1, keepdim=True)
    square_sum = torch.linalg.vector_norm(values, dim=1, keepdim=True).square()
    variance = (square_sum - n * mean.square()).clamp_(min=0) / max(n - 1, 1)
    return mean.to(rows.dtype), (variance + VARIANCE_EPSILON).rsqrt().to(rows.dtype)


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


def _multiply_by_triangle(x: Tensor, grad: Tensor) -> Tensor:
    return x.abs().mul_(-2).add_(2).clamp_(min=0).mul_(grad)


def _multiply_by_box(x: Tensor, grad: Tensor) -> Tensor:
    return grad * (x.abs() <= 1)


_WINDOWS = {"triangle": _multiply_by_triangle, "box": _multiply_by_box}


class _WindowedSignFunction(torch.autograd.Function):
    """Sign of ``x``; gradient a window over ``x``, or over ``x`` divided by its per-sample standard deviation.

    With ``r`` the inverse standard deviation, ``m`` the mean, ``n`` the values of a sample and
    ``g0 = g window(x r)``, the gradient through the division is
    ``g0 r - (x - m) sum(g0 x) r^3 / (n - 1)``. Saves ``x`` and, when normalizing, two numbers a sample.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: str, normalize: bool) -> Tensor:
        ctx.window = window
        if normalize:
            ctx.save_for_backward(x, *per_sample_statistics(sample_rows(x)))
        else:
            ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, *statistics = ctx.saved_tensors
        apply_window = _WINDOWS[ctx.window]
        if not statistics:
            return apply_window(x, grad), None, None
        mean, inverse_std = statistics
        rows = sample_rows(x)
        inside = apply_window(rows * inverse_std, sample_rows(_in_layout_of(x, grad)))
        slope = (inside * rows).sum(1, keepdim=True) * inverse_std.pow(3) / max(rows.shape[1] - 1, 1)
        grad_rows = inside.mul_(inverse_std).addcmul_(rows, slope, value=-1).add_(mean * slope)
        return _from_rows(grad_rows, x), None, None


class PeriodicSign(nn.Module):
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

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a floating-point tensor of any shape."""
        return _PeriodicSignFunction.apply(weight, self._frequency, self.stage)

    def extra_repr(self) -> str:
        return f'frequency={self.frequency:g}, stage="{self.stage}"'

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "frequency"] = torch.tensor(self.frequency, dtype=torch.float64)
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
        known = {key: state_dict.pop(prefix + key, None) for key in ("frequency", "stage")}
        missing_keys.extend(prefix + key for key, value in known.items() if value is None)
        try:
            if known["frequency"] is not None:
                self.frequency = float(known["frequency"])
            if known["stage"] is not None:
                self.stage = Stage.of(int(known["stage"]))
        except ModelError as error:
            raise CheckpointError(f"{prefix.rstrip('.')}: {error}") from error
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _WindowedSign(nn.Module):
    """What `ApproxSign` and `SteSign` share: a sign whose gradient is a window around zero."""

    window: str

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a (N, ...) floating-point tensor."""
        return _WindowedSignFunction.apply(x, self.window, self.normalize and self.training)

    def extra_repr(self) -> str:
        return f"normalize={self.normalize}"


class ApproxSign(_WindowedSign):
    r"""Sign with the gradient of a piecewise polynomial.

    Forward ``+1 if x >= 0 else -1``; gradient ``max(0, 2 - 2|x|)``.

    With ``normalize=True``, in training mode, ``x`` stands for the input divided by its per-sample
    standard deviation ``sqrt(var + 1e-5)`` (unbiased, over all dimensions but the first), and the gradient
    goes through that division too. It moves the gradient window and never a sign, so evaluation leaves it out.

    Source: Liu et al., "Bi-Real Net", ECCV 2018, equation 7; the division by the standard deviation as in
    the published code of BiPer.
    """

    window = "triangle"


class SteSign(_WindowedSign):
    r"""Sign with the clipped straight-through estimator.

    Forward ``+1 if x >= 0 else -1``; gradient ``1 if |x| <= 1 else 0``. ``normalize`` as in `ApproxSign`.

    Source: Hubara et al., "Binarized Neural Networks", NeurIPS 2016, equation 4.
    """

    window = "box"
