"""ReCU: weights far from zero are clamped to a distance from which a training step can still change their sign."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biper.quantizers.base import Quantizer, sign_with_slope
from biper.quantizers.channels import standardized


class RectifiedClampSign(Quantizer):
    r"""Weight quantizer of ReCU (rectified clamp unit): signs of standardized and clamped weights.

    Forward, with the mean and the unbiased variance of an output channel:

        sign(v)    with v = 2 √2 (w - mean) / sqrt(var + 1e-5)

    Gradient used, and through the standardization:

        1 if |v| <= Q(τ) else 0    with Q(τ) = -ln(2 - 2τ) mean |v|

    ``Q(τ)`` is the quantile τ of the Laplace distribution that fits the layer. With ``p`` the fraction of training that
    is done (``progress``), τ rises as ``τ = tau_start + (tau_end - tau_start) (e^p - 1) / (e - 1)``.

    Args:
        tau_start: τ at the start of training, between 1/2 and 1.
        tau_end: τ at the end of training, between 1/2 and 1.

    Source: Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural Networks", ICCV 2021, equations 9, 14 and 19,
    and the authors' published code.
    """

    always_gives_scaled_signs = True

    def __init__(self, tau_start: float = 0.85, tau_end: float = 0.99) -> None:
        super().__init__()
        self.tau_start, self.tau_end = tau_start, tau_end

    @property
    def tau(self) -> float:
        """The quantile τ at which weights are clamped at the current progress."""
        return self.tau_start + (self.tau_end - self.tau_start) * math.expm1(self.progress) / math.expm1(1)

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute the standardized weight ``v`` of a latent weight (out, ...); the clamp changes no sign."""
        return standardized(x, epsilon=1e-5) * math.sqrt(8)

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...) to -1 and +1, in its shape and dtype."""
        v = self.sign_argument(weight)
        limit = -math.log(2 - 2 * self.tau) * v.detach().abs().mean()
        return sign_with_slope(v.clamp(-limit, limit), torch.ones_like)

    def extra_repr(self) -> str:
        return f"tau_start={self.tau_start:g}, tau_end={self.tau_end:g}"
