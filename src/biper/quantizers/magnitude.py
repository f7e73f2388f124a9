"""Signs of weights times their mean magnitude: XNOR-Net, Bi-Real Net (also ReActNet) and DoReFa."""

from __future__ import annotations

from torch import Tensor

from biper.quantizers.base import Quantizer, ShiftedSign, SlopedSign, box, channel_dims, sign, sign_with_slope


def _identity_gradient(x: Tensor) -> Tensor:
    """Zeros whose gradient by ``x`` is 1."""
    return x - x.detach()


class _ChannelMagnitude(Quantizer):
    """``α sign(w)`` with ``α = mean |w|`` over each output channel."""

    scaled = True
    always_signs = True

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(α, 0), α of shape (out, 1, ...)."""
        return x.abs().mean(channel_dims(x), keepdim=True), x.new_zeros(())


class XnorSign(_ChannelMagnitude):
    r"""Weights of XNOR-Net: signs times the mean magnitude of their output channel.

    Forward ``α sign(w)``, ``α = mean |w|`` over the ``n`` weights of an output channel. Gradient
    ``1 / n + α [|w| <= 1]``: of the scale's own gradient the published formula keeps the diagonal.

    Source: Rastegari et al., "XNOR-Net", ECCV 2016, equations 6 and 11 (the second term of its gradient). The scales
    that it computes for patches of the input are left out, as its successors do.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        scale = self.levels(weight.detach())[0]
        return scale * sign_with_slope(weight, box) + _identity_gradient(weight) / weight[0].numel()


class MagnitudeAwareSign(_ChannelMagnitude):
    r"""Weights of Bi-Real Net and ReActNet: a gradient that knows the magnitude.

    Forward ``α sign(w)``, ``α = mean |w|`` over an output channel; gradient ``α [|w| <= 1]``, α taken as constant.

    Source: Liu et al., "Bi-Real Net", ECCV 2018, section 3.3 (magnitude-aware gradient); Liu et al., "ReActNet",
    ECCV 2020.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight (out, ...)."""
        return self.levels(weight.detach())[0] * sign_with_slope(weight, box)


class DoReFaWeight(Quantizer):
    r"""Weights of DoReFa with one bit: signs times the mean magnitude of the whole layer.

    Forward ``E sign(w)``, ``E = mean |w|`` over the layer; gradient 1, with no window.

    Source: Zhou et al., "DoReFa-Net", 2016, equation 8.
    """

    scaled = True
    always_signs = True

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(E, 0), both scalars."""
        return x.abs().mean(), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight of any shape."""
        scale = self.levels(weight.detach())[0]
        return scale * sign(weight.detach()) + _identity_gradient(weight)


class _HalfWindowSign(SlopedSign):
    """Signs with the slope 2 for ``|x| <= 1/2`` and 0 elsewhere."""

    def slope(self, x: Tensor) -> Tensor:
        return 2 * (x.abs() <= 0.5).to(x.dtype)


class DoReFaInput(ShiftedSign):
    r"""Inputs of DoReFa with one bit: 0 or 1.

    Forward ``1 if x >= 1/2 else 0``, the rounded clip of ``x`` to [0, 1]; gradient ``1 if 0 <= x <= 1 else 0``.

    Source: Zhou et al., "DoReFa-Net", 2016, equations 5 and 11 with k = 1.
    """

    def __init__(self) -> None:
        super().__init__(_HalfWindowSign())

    def real(self, x: Tensor) -> Tensor:
        """``x - 1/2``."""
        return x - 0.5

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(1/2, 1/2)."""
        return x.new_full((), 0.5), x.new_full((), 0.5)
