"""Signs of weights times the mean magnitude of their output channel: XNOR-Net, and Bi-Real Net with ReActNet."""

from __future__ import annotations

from torch import Tensor

from biper.quantizers.base import Quantizer, sign_with_slope
from biper.quantizers.channels import channel_magnitude


def _box(x: Tensor) -> Tensor:
    """The slope of the clipped straight-through estimator: 1 where ``|x| <= 1`` and 0 elsewhere."""
    return (x.abs() <= 1).to(x.dtype)


class _ChannelMagnitude(Quantizer):
    """The common base of both quantizers: ``α sign(w)`` with ``α = mean |w|`` over each output channel."""

    has_own_scale = True
    always_gives_scaled_signs = True

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (α, 0) for a latent weight (out, ...); α is (out, 1, ...)."""
        return channel_magnitude(x), x.new_zeros(())


class XnorSign(_ChannelMagnitude):
    r"""Weight quantizer of XNOR-Net: signs times the mean magnitude of their output channel.

    Forward, with ``α = mean |w|`` over the ``n`` weights of an output channel:

        α sign(w)

    Gradient used (the published formula keeps the diagonal of the scale's own gradient):

        1 / n + α [|w| <= 1]

    Source: Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", ECCV 2016,
    equations 6 and 11 (the second term of its gradient). The scales that XNOR-Net computes for patches of the input
    are left out, as its successors do.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...) to ``-α`` and ``+α``, in its shape and dtype."""
        zeros_with_gradient_one = weight - weight.detach()
        signs = channel_magnitude(weight.detach()) * sign_with_slope(weight, _box)
        return signs + zeros_with_gradient_one / weight[0].numel()


class MagnitudeAwareSign(_ChannelMagnitude):
    r"""Weight quantizer of Bi-Real Net and ReActNet: its gradient carries the magnitude of the weights as a factor.

    Forward, with ``α = mean |w|`` over an output channel, which is taken as constant:

        α sign(w)

    Gradient used:

        α [|w| <= 1]

    Source: Liu et al., "Bi-Real Net", ECCV 2018, section 3.3 (magnitude-aware gradient); Liu et al., "ReActNet:
    Towards Precise Binary Neural Network with Generalized Activation Functions", ECCV 2020.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...) to ``-α`` and ``+α``, in its shape and dtype."""
        return channel_magnitude(weight.detach()) * sign_with_slope(weight, _box)
