"""`BinaryLinear`: a drop-in replacement for `torch.nn.Linear`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from biper.errors import ModelError
from biper.nn.quantized import DEFAULT_FREQUENCY, add_scale_, default_quantizers
from biper.nn.scaled import ScaledLinear
from biper.quantizers import Stage


class BinaryLinear(nn.Linear):
    r"""Linear layer with binary weights and (by default) binary inputs.

    .. math:: y = \text{scale} \cdot (q_a(x)\, q_w(\text{weight})^T) + \text{bias}

    ``weight`` is the latent weight, (out_features, in_features); ``scale`` is learned, (out_features,), and
    starts at ``1 / sqrt(in_features)``. The other arguments are those of `BinaryConv2d`.

    Shapes:
        input (N, ..., in_features) or (in_features,), floating point; output (N, ..., out_features). A sample,
        for the default input quantizer, is everything under one index of the first dimension.
    """

    scale: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        frequency: float = DEFAULT_FREQUENCY,
        stage: Stage | str | int = Stage.RELAXED,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.weight_quantizer, self.input_quantizer = default_quantizers(
            weight_quantizer, input_quantizer, frequency, stage
        )
        add_scale_(self, self.weight_quantizer)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class."""
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ModelError(f"BinaryLinear expected input (N, {self.in_features}), got shape {tuple(x.shape)}")
        if x.dim() == 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        y = ScaledLinear.apply(self.input_quantizer(x), self.weight_quantizer(self.weight), self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)
