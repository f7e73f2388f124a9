"""DoReFa-Net with one bit: one scale for all weights of a layer, and inputs of 0 and 1."""

from __future__ import annotations

from torch import Tensor

from biper.quantizers.base import Quantizer, ShiftedSign, SlopedSign, sign


class DoReFaWeight(Quantizer):
    r"""Weight quantizer of DoReFa-Net with one bit: signs times the mean magnitude of the whole layer.

    Forward, with ``E = mean |w|`` over the layer:

        E sign(w)

    Gradient used, without a window:

        1

    Source: Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients",
    2016, arXiv 1606.06160, equation 8.
    """

    has_own_scale = True
    always_gives_scaled_signs = True

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (E, 0), two scalars, for a latent weight of any shape."""
        return x.abs().mean(), x.new_zeros(())

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a latent weight of any shape to ``-E`` and ``+E``, in its shape and dtype."""
        zeros_with_gradient_one = weight - weight.detach()
        return self.scale_and_offset(weight.detach())[0] * sign(weight.detach()) + zeros_with_gradient_one


class _HalfWindowSign(SlopedSign):
    """The sign with the surrogate gradient 2 where ``|x| <= 1/2`` and 0 elsewhere."""

    def slope(self, x: Tensor) -> Tensor:
        return 2 * (x.abs() <= 0.5).to(x.dtype)


class DoReFaInput(ShiftedSign):
    r"""Input quantizer of DoReFa-Net with one bit: the input clipped to [0, 1] and rounded.

    Forward:

        1 if x >= 1/2 else 0

    Gradient used:

        1 if 0 <= x <= 1 else 0

    Source: Zhou et al., "DoReFa-Net", 2016, arXiv 1606.06160, equations 5 and 11 with k = 1.
    """

    def __init__(self) -> None:
        super().__init__(_HalfWindowSign())

    def sign_argument(self, x: Tensor) -> Tensor:
        """Compute ``x - 1/2`` for an input of any shape."""
        return x - 0.5

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1/2, 1/2), two scalars in the dtype of ``x``."""
        return x.new_full((), 0.5), x.new_full((), 0.5)
