"""Signs whose surrogate gradient is a window around zero: `ApproxSign` (Bi-Real Net, BiPer) and `SteSign` (BNN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biper.quantizers.base import Quantizer, sign
from biper.quantizers.per_sample import from_rows, in_layout_of, per_sample_statistics, sample_rows

Window = Literal["triangle", "box"]
"""The shape of the surrogate gradient: ``max(0, 2 - 2|x|)`` or ``1 if |x| <= 1 else 0``."""


def _multiply_by_triangle(x: Tensor, grad: Tensor) -> Tensor:
    return x.abs().mul_(-2).add_(2).clamp_(min=0).mul_(grad)


def _multiply_by_box(x: Tensor, grad: Tensor) -> Tensor:
    return grad * (x.abs() <= 1)


_MULTIPLY_BY_WINDOW: dict[Window, Callable[[Tensor, Tensor], Tensor]] = {
    "triangle": _multiply_by_triangle,
    "box": _multiply_by_box,
}


class _WindowedSignFunction(torch.autograd.Function):
    """The sign of ``x``, with a window over ``x``, or over ``x`` divided by its standard deviation, as its gradient.

    With ``r`` the inverse standard deviation of a sample, ``m`` its mean, ``n`` the number of its values and
    ``g0 = grad * window(x r)``, the gradient through the division is ``g0 r - (x - m) sum(g0 x) r^3 / (n - 1)``.
    The function saves ``x`` and, where it normalizes, two numbers for each sample.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, normalize: bool) -> Tensor:
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
        multiply_by_window = _MULTIPLY_BY_WINDOW[ctx.window]
        if not statistics:
            return multiply_by_window(x, grad), None, None
        mean, inverse_std = statistics
        rows = sample_rows(x)
        inside = multiply_by_window(rows * inverse_std, sample_rows(in_layout_of(x, grad)))
        slope = (inside * rows).sum(1, keepdim=True) * inverse_std.pow(3) / max(rows.shape[1] - 1, 1)
        grad_rows = inside.mul_(inverse_std).addcmul_(rows, slope, value=-1).add_(mean * slope)
        return from_rows(grad_rows, x), None, None


_windowed_sign: Callable[[Tensor, Window, bool], Tensor] = _WindowedSignFunction.apply


class _WindowedSign(Quantizer):
    """The common base of `ApproxSign` and `SteSign`: a sign whose surrogate gradient is a window around zero."""

    always_gives_scaled_signs = True
    window: Window

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Quantize a floating-point tensor (N, ...) to -1 and +1, in its shape and dtype."""
        return _windowed_sign(x, self.window, self.normalize and self.training)

    def extra_repr(self) -> str:
        return f"normalize={self.normalize}"


class ApproxSign(_WindowedSign):
    r"""Sign with the gradient of a piecewise polynomial; the default input quantizer of the binary layers.

    Forward:

        +1 if x >= 0 else -1

    Gradient used, the derivative of ``2x + x²`` for ``-1 <= x < 0`` and of ``2x - x²`` for ``0 <= x <= 1``:

        max(0, 2 - 2|x|)

    With ``normalize=True`` and in training mode, the gradient is taken at the input divided by its per-sample standard
    deviation ``sqrt(var + 1e-5)`` (unbiased, over all dimensions but the first), and goes through that division too.
    The division moves the window of the gradient and never a sign, so that evaluation leaves it out.

    Args:
        normalize: whether training divides the input by its per-sample standard deviation.

    Source: Liu et al., "Bi-Real Net: Enhancing the Performance of 1-bit CNNs with Improved Representational Capability
    and Advanced Training Algorithm", ECCV 2018, equation 7; the division as in the published code of BiPer.
    """

    window = "triangle"


class SteSign(_WindowedSign):
    r"""Sign with the clipped straight-through estimator.

    Forward:

        +1 if x >= 0 else -1

    Gradient used:

        1 if |x| <= 1 else 0

    Args:
        normalize: whether training takes the gradient at the input divided by its per-sample standard deviation, as
            `ApproxSign` does.

    Source: Hubara et al., "Binarized Neural Networks", NeurIPS 2016, equation 4.
    """

    window = "box"
