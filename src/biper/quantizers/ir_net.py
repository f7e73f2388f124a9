"""IR-Net: balanced, standardized weights, and an estimator that sharpens as training goes on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biper.quantizers.base import SlopedSign, channel_dims, standardized


class ErrorDecaySign(SlopedSign):
    r"""Sign with the error-decay estimator of IR-Net: a tanh that turns from a line into a step.

    Forward ``+1 if x >= 0 else -1``; gradient ``k t (1 - tanh²(t x))`` with ``t = t0 (t1 / t0)^p`` and
    ``k = max(1 / t, 1)``, for the share ``p`` of training that is done.

    Args:
        t_start, t_end: t0 and t1, positive.

    Source: Qin et al., "Forward and Backward Information Retention" (IR-Net), CVPR 2020, equations 9 to 12.
    """

    def __init__(self, t_start: float = 0.1, t_end: float = 10.0) -> None:
        super().__init__()
        self.t_start, self.t_end = t_start, t_end

    @property
    def t(self) -> float:
        """Steepness of the tanh now."""
        return self.t_start * math.pow(self.t_end / self.t_start, self.progress)

    def slope(self, x: Tensor) -> Tensor:
        """The estimator's derivative."""
        t = self.t
        height = max(1 / t, 1.0) * t
        return torch.mul(x, t).tanh_().square_().mul_(-height).add_(height)

    def extra_repr(self) -> str:
        return f"t_start={self.t_start:g}, t_end={self.t_end:g}"


class LibraWeight(ErrorDecaySign):
    r"""Weights of IR-Net (Libra parameter binarization).

    Forward ``2^s sign(v)`` with ``v = (w - mean) / std`` and ``s = round(log2(mean |v|))``, all over an output
    channel. Gradient: that of `ErrorDecaySign` at ``v``, through the standardization; ``2^s`` is constant.

    Source: Qin et al., IR-Net, CVPR 2020, equations 5 to 8; s of each channel, as in the authors' code.
    """

    scaled = True
    always_signs = True

    def real(self, x: Tensor) -> Tensor:
        """The standardized weight."""
        return standardized(x)

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(2^s, 0), 2^s of shape (out, 1, ...)."""
        return self._scale(standardized(x.detach())), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        v = standardized(weight)
        return self._scale(v.detach()) * super().forward(v)

    @staticmethod
    def _scale(v: Tensor) -> Tensor:
        return torch.exp2(v.abs().mean(channel_dims(v), keepdim=True).log2().round())
