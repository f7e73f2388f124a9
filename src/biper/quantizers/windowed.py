"""Signs whose gradient is a window around zero: `ApproxSign` and `SteSign`, for inputs and for weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biper.quantizers.base import Quantizer, sign

VARIANCE_EPSILON = 1e-5
"""Added to a sample's variance before the square root, so that a constant sample divides by no zero."""


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


class _WindowedSign(Quantizer):
    """What `ApproxSign` and `SteSign` share: a sign whose gradient is a window around zero."""

    always_signs = True
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
