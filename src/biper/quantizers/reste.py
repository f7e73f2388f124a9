"""ReSTE: a power function between the identity and the sign, closer to the sign as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.quantizers.base import SlopedSign


class PowerSign(SlopedSign):
    r"""Sign with the rectified straight-through estimator.

    Forward ``+1 if x >= 0 else -1``; gradient that of ``sign(x) |x|^(1/o)``, cut off where it is too steep or too far:

    ==================  =========================
    ``|x|``             gradient
    ==================  =========================
    up to ``m``         ``m^(1/o) / m``
    up to ``window``    ``|x|^((1 - o) / o) / o``
    beyond              0
    ==================  =========================

    The order ``o = 1 + p (order_end - 1)`` rises with the share ``p`` of training that is done; 1 is the clipped
    straight-through estimator.

    Args:
        order_end: o at the end, at least 1.
        window: beyond this no gradient passes.
        flat: m, up to which the gradient is the slope of the chord from zero.

    Source: Wu et al., "Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator for Binary
    Neural Networks Training", ICCV 2023, equations 6 to 10.
    """

    def __init__(self, order_end: float = 3.0, window: float = 1.5, flat: float = 0.1) -> None:
        super().__init__()
        self.order_end, self.window, self.flat = order_end, window, flat

    @property
    def order(self) -> float:
        """o now."""
        return 1 + self.progress * (self.order_end - 1)

    def slope(self, x: Tensor) -> Tensor:
        """The estimator's derivative."""
        o = self.order
        size = x.abs()
        power = size.clamp(min=self.flat).pow((1 - o) / o) / o
        near = torch.where(size <= self.flat, self.flat ** (1 / o) / self.flat, power)
        return near * (size <= self.window)

    def extra_repr(self) -> str:
        return f"order_end={self.order_end:g}, window={self.window:g}, flat={self.flat:g}"


class PowerWeight(PowerSign):
    r"""Weights of ReSTE: ``E sign(w)`` with ``E = mean |w|`` over the layer.

    Gradient ``E slope(w)`` with the slope of `PowerSign`, plus that of E itself, ``sign(w) / n * sum(g sign(w))``.

    Source: as `PowerSign`; the scale and its gradient as in the authors' code.
    """

    scaled = True
    always_signs = True

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(E, 0), both scalars."""
        return x.abs().mean(), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight of any shape."""
        return self.levels(weight)[0] * super().forward(weight)
