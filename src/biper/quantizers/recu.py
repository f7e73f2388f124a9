"""ReCU: weights far out are brought back to where a step can still change their sign."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biper.quantizers.base import Quantizer, sign_with_slope, standardized


class RectifiedClampSign(Quantizer):
    r"""Weights of ReCU, the rectified clamp unit.

    Forward ``sign(v)`` with ``v = 2 √2 (w - mean) / sqrt(var + 1e-5)`` over an output channel. Gradient: 1 where
    ``|v| <= Q(τ)`` and 0 beyond, through the standardization; ``Q(τ) = -ln(2 - 2τ) mean |v|`` is the quantile τ of the
    Laplace distribution that fits the layer. τ rises from τ0 to τ1 as ``τ0 + (τ1 - τ0) (e^p - 1) / (e - 1)``, for the
    share ``p`` of training that is done.

    Args:
        tau_start, tau_end: τ0 and τ1, between 1/2 and 1.

    Source: Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural Networks", ICCV 2021, equations 9, 14 and 19,
    and the authors' published code.
    """

    always_signs = True

    def __init__(self, tau_start: float = 0.85, tau_end: float = 0.99) -> None:
        super().__init__()
        self.tau_start, self.tau_end = tau_start, tau_end

    @property
    def tau(self) -> float:
        """The quantile at which weights are clamped now."""
        return self.tau_start + (self.tau_end - self.tau_start) * math.expm1(self.progress) / math.expm1(1)

    def real(self, x: Tensor) -> Tensor:
        """The standardized weight; the clamp changes no sign."""
        return standardized(x, epsilon=1e-5) * math.sqrt(8)

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        v = self.real(weight)
        limit = -math.log(2 - 2 * self.tau) * v.detach().abs().mean()
        return sign_with_slope(v.clamp(-limit, limit), torch.ones_like)

    def extra_repr(self) -> str:
        return f"tau_start={self.tau_start:g}, tau_end={self.tau_end:g}"
