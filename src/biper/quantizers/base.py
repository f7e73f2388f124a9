"""What all quantizers share: the sign, a surrogate for its gradient, and what export and schedules ask of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sign(x: Tensor) -> Tensor:
    """+1 where ``x >= 0`` and -1 elsewhere (so -1 for NaN), in the dtype of ``x``. Not differentiable."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class Quantizer(nn.Module):
    """A function to two values, ``offset + scale * sign(real(x))``, with a gradient of its own.

    In evaluation mode (and, for `PeriodicSign`, in stage ``"binary"``) ``forward(x)`` is that, with `levels` for the
    scale and the offset. Export packs the signs and keeps the two numbers.
    """

    scaled: ClassVar[bool] = False
    """Whether the output has a magnitude of its own, so that a layer with this weight quantizer learns no scale."""
    always_signs: ClassVar[bool] = False
    """Whether `gives_signs` always holds."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = 0.0

    @property
    def gives_signs(self) -> bool:
        """Whether the output is +1 and -1 now, also in training: then kernels may compute with bits.

        Or, of weights and with `scaled`, plus and minus a number of each output channel.
        """
        return self.always_signs

    def real(self, x: Tensor) -> Tensor:
        """The real tensor whose signs are taken, in the shape of ``x``: ``x`` itself, unless a method shifts it."""
        return x

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:  # what they depend on differs
        """Scale and offset of the two values, each of a shape that broadcasts with ``x``: by default 1 and 0."""
        return x.new_ones(()), x.new_zeros(())

    def set_progress(self, fraction: float) -> None:
        """Take in how much of its stage training has done, above 0 and up to 1; see `biper.nn.set_progress_`."""
        self.progress = fraction


class _SurrogateSign(torch.autograd.Function):
    """Sign of ``x``; gradient ``g * slope(x)``. Saves ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return sign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.slope(x).mul_(grad), None


def sign_with_slope(x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Forward ``sign(x)``, backward ``g * slope(x)``; ``slope`` maps a tensor to a new one of its shape."""
    return _SurrogateSign.apply(x, slope)


class SlopedSign(Quantizer):
    """Signs whose gradient is a function of the input: forward ``sign(x)``, backward ``g * slope(x)``."""

    def slope(self, x: Tensor) -> Tensor:
        """The slope at ``x``, in its shape and dtype: a new tensor."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a tensor of any shape."""
        return sign_with_slope(x, self.slope)


class ShiftedSign(Quantizer):
    """``offset + scale * sign(real(x))``, a number each for the whole tensor; the gradient goes through all of it.

    Args:
        sign: what takes the signs, and has their gradient.
    """

    levelled: ClassVar[bool] = True
    """Whether there is a scale and an offset at all."""

    def __init__(self, sign: Quantizer) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a tensor; its shape is as `real` takes it."""
        signs: Tensor = self.sign(self.real(x))
        if not self.levelled:
            return signs
        scale, offset = self.levels(x)
        return scale * signs + offset


def box(x: Tensor) -> Tensor:
    """1 where ``|x| <= 1`` and 0 elsewhere: the slope of the clipped straight-through estimator."""
    return (x.abs() <= 1).to(x.dtype)


def channel_dims(weight: Tensor) -> tuple[int, ...]:
    """The dimensions of a weight (out, ...) that belong to one output channel: all but the first."""
    return tuple(range(1, weight.dim()))


def standardized(weight: Tensor, epsilon: float = 0.0) -> Tensor:
    """A weight with mean 0 and unbiased variance 1 in each output channel: ``(w - mean) / sqrt(var + epsilon)``.

    A channel of equal weights gives zeros, also without an epsilon.
    """
    dims = channel_dims(weight)
    centred = weight - weight.mean(dims, keepdim=True)
    variance = centred.square().sum(dims, keepdim=True) / max(weight[0].numel() - 1, 1)
    tiny = torch.finfo(weight.dtype).tiny
    return centred / (variance + epsilon).clamp(min=tiny).sqrt()
