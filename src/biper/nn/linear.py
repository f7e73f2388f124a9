"""`BinaryLinear`, a drop-in replacement for `torch.nn.Linear`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from biper.errors import ModelError
from biper.nn.latent import LatentWeightLayer
from biper.nn.quantized import add_scale_, default_quantizers
from biper.nn.scaled import scaled_linear
from biper.quantizers import DEFAULT_FREQUENCY, Stage


class BinaryLinear(LatentWeightLayer, nn.Linear):
    r"""Linear layer with binary weights and, by default, binary inputs.

    It computes, with the input quantizer ``qa`` and the weight quantizer ``qw``:

        y = scale * (qa(x) @ qw(weight).T) + bias

    ``weight`` is the latent weight, (out_features, in_features). ``scale``, (out_features,), is a parameter that starts
    at ``1 / sqrt(in_features)``; if the weight quantizer brings its own scale, it is a buffer of ones instead.

    The input is (N, ..., in_features) or (in_features,) in floating point, and the output is (N, ..., out_features) or
    (out_features,). For the default input quantizer, a sample is everything under one index of the first dimension.

    Args:
        in_features: the number of features of the input.
        out_features: the number of features of the output.
        bias: whether the layer adds a learned bias, (out_features,).
        device: the device of the parameters.
        dtype: the dtype of the parameters, floating point.
        frequency: ω of the default weight quantizer, in radians per unit of weight.
        stage: the stage of the default weight quantizer, ``"relaxed"`` or ``"binary"`` (or 1 or 2).
        weight_quantizer: the module that maps latent weights to bits; default ``PeriodicSign(frequency, stage)``.
        input_quantizer: the module that maps inputs to bits; default ``ApproxSign(normalize=True)``. With
            ``torch.nn.Identity()``, only the weights are binary (W1A32).

    Raises:
        ModelError: the frequency is not a positive finite number, or there is no such stage.

    Source: as `BinaryConv2d`.
    """

    scale: Tensor
    """One factor for each feature of the output, (out_features,)."""

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

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to an input (N, ..., in_features) or (in_features,).

        Args:
            input: the input, floating point.

        Returns:
            The output, in the dtype of ``input``, or in that of autocast where it is on.

        Raises:
            ModelError: the input has another number of features.
        """
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ModelError(f"BinaryLinear expected input (N, {self.in_features}), got shape {tuple(input.shape)}")
        if input.dim() == 1:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        y = scaled_linear(self.input_quantizer(input), self.forward_weight(), self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)
