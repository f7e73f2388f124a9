"""What all binary layers share: the weight that a layer multiplies with, of bits or of real numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from biper.quantizers import Quantizer

_KEY = "real_weights"
"""The entry of the state dict that says that a layer is in stage ``"inputs"``; layers in other stages have none."""


class LatentWeightLayer(nn.Module):
    """Base class of the binary layers: it computes the weight of the forward pass from the latent weight.

    With ``real_weights`` the inputs of the layer are bits and its weights are real numbers: stage ``"inputs"`` of
    `biper.set_stage_`. The attribute is a plain Python attribute; the state dict holds it while it is true.
    """

    weight: Tensor
    scale: Tensor
    weight_quantizer: nn.Module
    real_weights: bool = False

    def forward_weight(self) -> Tensor:
        """Compute the weight that the layer multiplies its inputs with, before the scale.

        It is ``weight_quantizer(weight)``, or in stage ``"inputs"``, for the output channel ``o``:

            w / mean |w_o|

        Like the signs, these numbers have the mean magnitude 1 in each channel, so that the learned scale keeps its
        meaning when the signs take their place. If the weight quantizer brings its own scale, it is ``w`` itself.

        Returns:
            A tensor of the shape and dtype of ``weight``.
        """
        if not self.real_weights:
            bits: Tensor = self.weight_quantizer(self.weight)
            return bits
        if has_own_scale(self.weight_quantizer):
            return self.weight
        return self.weight / mean_magnitudes(self.weight)

    @property
    def gives_scaled_signs(self) -> bool:
        """Whether the forward weight of each output channel is plus and minus one number."""
        quantizer = self.weight_quantizer
        return not self.real_weights and isinstance(quantizer, Quantizer) and quantizer.gives_scaled_signs

    def extra_repr(self) -> str:
        return super().extra_repr() + (", real_weights=True" if self.real_weights else "")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.real_weights:
            destination[prefix + _KEY] = torch.tensor(True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        self.real_weights = bool(state_dict.pop(prefix + _KEY, False))
        super()._load_from_state_dict(state_dict, prefix, *others)


def has_own_scale(weight_quantizer: nn.Module) -> bool:
    """Whether a weight quantizer gives other values than -1 and +1, so that the layer learns no scale."""
    return isinstance(weight_quantizer, Quantizer) and weight_quantizer.has_own_scale


def mean_magnitudes(weight: Tensor) -> Tensor:
    """Compute ``mean |w|`` of each output channel of a weight (out, ...), in a shape that broadcasts with it.

    A channel of zeros gets the smallest positive number in place of 0, so that one can divide by it.
    """
    means = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True)
    return means.clamp_min(torch.finfo(weight.dtype).tiny)


def scale_to_weights_(layer: LatentWeightLayer) -> None:
    """Set the scale of a layer to ``mean |w|`` of each output channel, in place.

    This is the scale with which the signs of the weights come nearest to the weights in the mean square (Rastegari et
    al., "XNOR-Net", ECCV 2016, equation 6). In stage ``"inputs"`` the layer then computes with the latent weights
    themselves. A layer whose weight quantizer brings its own scale stays as it is.

    Args:
        layer: a binary layer.
    """
    if not has_own_scale(layer.weight_quantizer):
        with torch.no_grad():
            layer.scale.copy_(mean_magnitudes(layer.weight).flatten())
