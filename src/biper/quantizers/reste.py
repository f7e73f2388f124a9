"""ReSTE: the surrogate of the sign is a power function that comes closer to the sign during training."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.quantizers.base import SlopedSign


class PowerSign(SlopedSign):
    r"""Sign with the rectified straight-through estimator of ReSTE.

    Forward:

        +1 if x >= 0 else -1

    Gradient used, that of ``sign(x) |x|^(1/o)`` except where it is too steep or too far from zero:

        flat^(1/o) / flat       if |x| <= flat
        |x|^((1 - o) / o) / o   if flat < |x| <= window
        0                       if |x| > window

    The order ``o = 1 + p (order_end - 1)`` rises with the fraction ``p`` of training that is done (``progress``). An
    order of 1 gives the clipped straight-through estimator.

    Args:
        order_end: the order o at the end of training, at least 1.
        window: the largest ``|x|`` at which a gradient passes.
        flat: the ``|x|`` up to which the gradient is the slope of the chord from zero.

    Source: Wu et al., "Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator for Binary
    Neural Networks Training", ICCV 2023, equations 6 to 10.
    """

    def __init__(self, order_end: float = 3.0, window: float = 1.5, flat: float = 0.1) -> None:
        super().__init__()
        self.order_end, self.window, self.flat = order_end, window, flat

    @property
    def order(self) -> float:
        """The order o at the current progress."""
        return 1 + self.progress * (self.order_end - 1)

    def slope(self, x: Tensor) -> Tensor:
        """Compute the surrogate gradient at the current progress, in the shape and dtype of ``x``."""
        o = self.order
        size = x.abs()
        power = size.clamp(min=self.flat).pow((1 - o) / o) / o
        near = torch.where(size <= self.flat, self.flat ** (1 / o) / self.flat, power)
        return near * (size <= self.window)

    def extra_repr(self) -> str:
        return f"order_end={self.order_end:g}, window={self.window:g}, flat={self.flat:g}"


class PowerWeight(PowerSign):
    r"""Weight quantizer of ReSTE: signs times the mean magnitude of the whole layer.

    Forward, with ``E = mean |w|`` over the ``n`` weights of the layer:

        E sign(w)

    Gradient used, with the slope of `PowerSign` and the incoming gradient ``g``; the second term is that of E:

        g E slope(w) + sign(w) / n * sum(g sign(w))

    Args:
        order_end: the order o at the end of training, at least 1.
        window: the largest ``|w|`` at which a gradient passes.
        flat: the ``|w|`` up to which the gradient is the slope of the chord from zero.

    Source: Wu et al., "Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator for Binary
    Neural Networks Training", ICCV 2023, equations 6 to 10; the scale and its gradient as in the authors' code.
    """

    has_own_scale = True
    always_gives_scaled_signs = True

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (E, 0), two scalars, for a latent weight of any shape."""
        return x.abs().mean(), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight of any shape to ``-E`` and ``+E``, in its shape and dtype."""
        return self.scale_and_offset(weight)[0] * super().forward(weight)
