"""The interface of all quantizers, the sign function, and signs that have a surrogate gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sign(x: Tensor) -> Tensor:
    """Compute ``+1 if x >= 0 else -1`` for each element. This function is not differentiable.

    Args:
        x: a floating-point tensor of any shape. The sign of both zeros is +1, and that of NaN is -1.

    Returns:
        A new tensor of the shape, dtype and device of ``x``.
    """
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class Quantizer(nn.Module):
    """Base class of quantizers: functions to two values, each with a surrogate gradient.

    In evaluation mode, ``forward(x)`` equals ``offset + scale * sign(sign_argument(x))``, where `scale_and_offset`
    returns the two numbers. (A `PeriodicSign` must also be in stage ``"binary"``.) Export relies on this equation: it
    packs the signs and keeps the two numbers.

    A subclass defines ``forward``. It overrides

    - `sign_argument` if the signs are not those of ``x`` itself,
    - `scale_and_offset` if the two values are not -1 and +1, and for weights sets `has_own_scale` too, so that a layer
      learns no second scale,
    - `always_gives_scaled_signs` if the equation also holds in training mode, with an offset of 0. This lets the native
      training kernels compute with bits. It does not change results.

    The attribute ``progress`` is the fraction of the training stage that is done; see `set_progress`.
    """

    has_own_scale: ClassVar[bool] = False
    """Whether the two values are other than -1 and +1. A layer learns no scale for weights that bring their own."""

    always_gives_scaled_signs: ClassVar[bool] = False
    """Whether `gives_scaled_signs` is true in every stage and mode."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = 0.0

    @property
    def gives_scaled_signs(self) -> bool:
        """Whether the output is now ``s * sign(...)``, in training mode too, with one number s for each output channel.

        The number s is 1 unless `has_own_scale` is true. The native training kernels then compute with bits. A
        quantizer that does not promise it gets the same results from kernels for real numbers.
        """
        return self.always_gives_scaled_signs

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute the real tensor whose signs the quantizer takes.

        Args:
            x: the input of the quantizer.

        Returns:
            A tensor of the shape and dtype of ``x``. The base class returns ``x`` itself; quantizers that shift,
            standardize or transform their input override this method.
        """
        return x

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the two numbers that turn signs into the output, ``offset + scale * sign(sign_argument(x))``.

        Args:
            x: the input of the quantizer.

        Returns:
            The scale and the offset: one number, of shape (), or for weights (out, ...) one number for each output
            channel, of shape (out, 1, ...). The base class returns 1 and 0.
        """
        return x.new_ones(()), x.new_zeros(())

    def set_progress(self, fraction: float) -> None:
        """Store how much of its training stage is done, in ``progress``; scheduled quantizers depend on it.

        `biper.nn.set_progress_` calls this method for every quantizer of a model before each training step.

        Args:
            fraction: the finished share of the stage's steps, above 0 and up to 1.
        """
        self.progress = fraction


class _SurrogateSign(torch.autograd.Function):
    """The sign of ``x``, with the gradient ``grad * slope(x)``. It saves ``x``."""

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


_surrogate_sign: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] = _SurrogateSign.apply


def sign_with_slope(x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute `sign` of ``x`` with a surrogate gradient: the incoming gradient times ``slope(x)``.

    Args:
        x: a floating-point tensor of any shape.
        slope: a function from ``x`` to a new tensor of the same shape and dtype, which the backward pass overwrites.

    Returns:
        A tensor of -1 and +1 in the shape and dtype of ``x``.
    """
    return _surrogate_sign(x, slope)


class SlopedSign(Quantizer):
    """Base class of signs whose surrogate gradient is a function of the input alone.

    Forward ``+1 if x >= 0 else -1``; gradient used ``slope(x)``.
    """

    def slope(self, x: Tensor) -> Tensor:
        """Compute the surrogate gradient of the sign at ``x``.

        Args:
            x: a floating-point tensor of any shape.

        Returns:
            A new tensor of the shape and dtype of ``x``.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a floating-point tensor of any shape to -1 and +1, in its shape and dtype."""
        return sign_with_slope(x, self.slope)


class ShiftedSign(Quantizer):
    """Base class of input quantizers that compute ``offset + scale * sign(sign_argument(x))`` for a whole tensor.

    The gradient goes through all three functions. A subclass whose scale is always 1 and whose offset is always 0 sets
    ``has_own_scale = False``; its output is then the signs themselves.

    Args:
        sign_quantizer: the module that takes the signs and defines their gradient.
    """

    has_own_scale = True

    def __init__(self, sign_quantizer: Quantizer) -> None:
        super().__init__()
        self.sign_quantizer = sign_quantizer

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a floating-point tensor, of a shape that `sign_argument` takes, to two values in its shape."""
        signs: Tensor = self.sign_quantizer(self.sign_argument(x))
        if not self.has_own_scale:
            return signs
        scale, offset = self.scale_and_offset(x)
        return scale * signs + offset
