"""IR-Net: balanced, standardized weights, and a surrogate gradient that becomes steeper during training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biper.quantizers.base import SlopedSign
from biper.quantizers.channels import channel_magnitude, standardized


class ErrorDecaySign(SlopedSign):
    r"""Sign with the error-decay estimator of IR-Net: a tanh that changes from a line into a step during training.

    Forward:

        +1 if x >= 0 else -1

    Gradient used:

        k t (1 - tanh²(t x))    with t = t_start (t_end / t_start)^p and k = max(1 / t, 1)

    where ``p`` is the fraction of training that is done (``progress``).

    Args:
        t_start: the steepness t at the start of training, positive.
        t_end: the steepness t at the end of training, positive.

    Source: Qin et al., "Forward and Backward Information Retention for Accurate Binary Neural Networks" (IR-Net), CVPR
    2020, equations 9 to 12.
    """

    def __init__(self, t_start: float = 0.1, t_end: float = 10.0) -> None:
        super().__init__()
        self.t_start, self.t_end = t_start, t_end

    @property
    def t(self) -> float:
        """The steepness of the tanh at the current progress."""
        return self.t_start * math.pow(self.t_end / self.t_start, self.progress)

    def slope(self, x: Tensor) -> Tensor:
        """Compute ``k t (1 - tanh²(t x))`` at the current progress, in the shape and dtype of ``x``."""
        t = self.t
        height = max(1 / t, 1.0) * t
        return torch.mul(x, t).tanh_().square_().mul_(-height).add_(height)

    def extra_repr(self) -> str:
        return f"t_start={self.t_start:g}, t_end={self.t_end:g}"


class LibraWeight(ErrorDecaySign):
    r"""Weight quantizer of IR-Net (Libra parameter binarization): signs of standardized weights times a power of two.

    Forward, with mean, unbiased standard deviation and ``s`` of each output channel:

        2^s sign(v)    with v = (w - mean) / std and s = round(log2(mean |v|))

    Gradient used: that of `ErrorDecaySign` at ``v``, and through the standardization; ``2^s`` is taken as constant.

        2^s k t (1 - tanh²(t v))

    Args:
        t_start: the steepness t at the start of training, positive.
        t_end: the steepness t at the end of training, positive.

    Source: Qin et al., "Forward and Backward Information Retention for Accurate Binary Neural Networks" (IR-Net), CVPR
    2020, equations 5 to 8; one s for each channel, as in the authors' code.
    """

    has_own_scale = True
    always_gives_scaled_signs = True

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute the standardized weight ``v`` of a latent weight (out, ...)."""
        return standardized(x)

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (2^s, 0) for a latent weight (out, ...); 2^s is (out, 1, ...)."""
        return _power_of_two(standardized(x.detach())), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...) to ``-2^s`` and ``+2^s``, in its shape and dtype."""
        v = standardized(weight)
        return _power_of_two(v.detach()) * super().forward(v)


def _power_of_two(v: Tensor) -> Tensor:
    """``2^s`` of each output channel for standardized weights ``v``, (out, 1, ...)."""
    return torch.exp2(channel_magnitude(v).log2().round())
