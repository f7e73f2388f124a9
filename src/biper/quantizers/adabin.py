"""AdaBin: the two values are not -1 and +1 but any two numbers that fit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biper.quantizers.base import ShiftedSign, channel_dims
from biper.quantizers.ir_net import ErrorDecaySign
from biper.quantizers.windowed import ApproxSign


class AdaBinWeight(ErrorDecaySign):
    r"""Weights of AdaBin: the set ``{β - α, β + α}`` of each output channel.

    Forward ``β + α sign(v)`` with ``v = (w - β) / α``, ``β = mean w`` and ``α = sqrt(mean (w - β)²)`` over an output
    channel. Gradient: that of `ErrorDecaySign` at ``v``; α and β are differentiated too.

    Source: Tu et al., "AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets", ECCV 2022, equations 5, 10
    and 11; the estimator as in the authors' code.
    """

    scaled = True

    def _moments(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        dims = channel_dims(weight)
        offset = weight.mean(dims, keepdim=True)
        square = (weight - offset).square().mean(dims, keepdim=True)
        return square.clamp(min=torch.finfo(weight.dtype).tiny).sqrt(), offset

    def real(self, x: Tensor) -> Tensor:
        """``(w - β) / α``."""
        scale, offset = self._moments(x)
        return (x - offset) / scale

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(α, β), both of shape (out, 1, ...)."""
        return self._moments(x)

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        scale, offset = self._moments(weight)
        return scale * super().forward((weight - offset) / scale) + offset


class AdaBinInput(ShiftedSign):
    r"""Inputs of AdaBin: a learned set ``{β - α, β + α}`` for a layer.

    Forward ``β + α sign(v)`` with ``v = (x - β) / α``. With ``h(v) = max(0, 2 - 2|v|)``, the gradient by ``x`` is
    ``h(v)``, by α the sum of ``sign(v) - v h(v)`` and by β the sum of ``1 - h(v)``, each times the incoming gradient.
    α and β start at 1 and 0.

    Source: Tu et al., AdaBin, ECCV 2022, equations 12 to 15.
    """

    def __init__(self) -> None:
        super().__init__(ApproxSign())
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def real(self, x: Tensor) -> Tensor:
        """``(x - β) / α``."""
        return (x - self.offset) / self.scale

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(α, β), both scalars."""
        return self.scale.to(x.dtype), self.offset.to(x.dtype)
