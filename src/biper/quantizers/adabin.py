"""AdaBin: the two values of weights and of inputs adapt to the data instead of being -1 and +1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biper.quantizers.base import ShiftedSign
from biper.quantizers.channels import channel_dims
from biper.quantizers.ir_net import ErrorDecaySign
from biper.quantizers.windowed import ApproxSign


class AdaBinWeight(ErrorDecaySign):
    r"""Weight quantizer of AdaBin: each output channel has the two values ``β - α`` and ``β + α``.

    Forward, with ``β = mean w`` and ``α = sqrt(mean (w - β)²)`` over an output channel:

        β + α sign(v)    with v = (w - β) / α

    Gradient used: that of `ErrorDecaySign` at ``v``; α and β are differentiated too.

        k t (1 - tanh²(t v))

    Args:
        t_start: the steepness t at the start of training, positive.
        t_end: the steepness t at the end of training, positive.

    Source: Tu et al., "AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets", ECCV 2022, equations 5, 10
    and 11; the estimator as in the authors' code.
    """

    has_own_scale = True

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``v = (w - β) / α`` for a latent weight (out, ...)."""
        scale, offset = _deviation_and_mean(x)
        return (x - offset) / scale

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (α, β), both (out, 1, ...), for a latent weight (out, ...)."""
        return _deviation_and_mean(x)

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...) to ``β - α`` and ``β + α``, in its shape and dtype."""
        scale, offset = _deviation_and_mean(weight)
        return scale * super().forward((weight - offset) / scale) + offset


def _deviation_and_mean(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The root mean squared deviation and the mean of each output channel of a weight, each (out, 1, ...)."""
    dims = channel_dims(weight)
    mean = weight.mean(dims, keepdim=True)
    square = (weight - mean).square().mean(dims, keepdim=True)
    return square.clamp(min=torch.finfo(weight.dtype).tiny).sqrt(), mean


class AdaBinInput(ShiftedSign):
    r"""Input quantizer of AdaBin: each layer learns its two values ``β - α`` and ``β + α``.

    Forward, with the parameters α (``scale``, which starts at 1) and β (``offset``, which starts at 0):

        β + α sign(v)    with v = (x - β) / α

    Gradients used, with ``h(v) = max(0, 2 - 2|v|)`` and the incoming gradient ``g``:

        by x: g h(v)
        by α: sum of g (sign(v) - v h(v))
        by β: sum of g (1 - h(v))

    Source: Tu et al., "AdaBin: Improving Binary Neural Networks with Adaptive Binary Sets", ECCV 2022, equations 12 to
    15.
    """

    def __init__(self) -> None:
        super().__init__(ApproxSign())
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(()))

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``v = (x - β) / α`` for an input of any shape."""
        return (x - self.offset) / self.scale

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α, β), two scalars in the dtype of ``x``."""
        return self.scale.to(x.dtype), self.offset.to(x.dtype)
