"""`BinaryConv1d`: a drop-in replacement for `torch.nn.Conv1d`, with causal padding beside torch's."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ModelError
from biper.fast.convolution import Geometry
from biper.nn.conv import convolve
from biper.nn.latent import LatentWeightLayer
from biper.nn.quantized import add_scale_, default_quantizers
from biper.quantizers import DEFAULT_FREQUENCY, Stage


class BinaryConv1d(LatentWeightLayer, nn.Conv1d):
    r"""One-dimensional convolution with binary weights and, by default, binary inputs.

    It computes, with the input quantizer ``qa`` and the weight quantizer ``qw``:

        y = scale * conv1d(qa(x), qw(weight)) + bias

    ``weight`` is the latent weight, (out_channels, in_channels / groups, k). ``scale``, (out_channels,), is a parameter
    that starts at ``1 / sqrt(fan_in)``; if the weight quantizer brings its own scale, it is a buffer of ones. Padding
    adds zeros after binarization: a padded tap adds nothing to the output.

    The input is (N, in_channels, L) or (in_channels, L) in floating point, and the output has the shape that
    `torch.nn.Conv1d` gives it. The layer computes what `BinaryConv2d` computes on a signal of height 1.

    Args:
        in_channels: the number of channels of the input.
        out_channels: the number of channels of the output.
        kernel_size: the length of the kernel.
        stride: the step of the kernel.
        padding: the values added on each side, ``"same"``, ``"valid"``, or ``"causal"``: ``dilation * (k - 1)`` values
            in front and none behind, so that an output depends on no later input.
        dilation: the distance between the taps of the kernel.
        groups: the number of groups of channels that are convolved separately.
        bias: whether the layer adds a learned bias, (out_channels,).
        padding_mode: what is padded: zeros, or bits of the input in the modes of `torch.nn.Conv1d`.
        device: the device of the parameters.
        dtype: the dtype of the parameters, floating point.
        frequency: ω of the default weight quantizer, in radians per unit of weight.
        stage: the stage of the default weight quantizer, ``"relaxed"`` or ``"binary"`` (or 1 or 2).
        weight_quantizer: the module that maps latent weights to bits; default ``PeriodicSign(frequency, stage)``.
        input_quantizer: the module that maps inputs to bits; default ``ApproxSign(normalize=True)``. With
            ``torch.nn.Identity()``, only the weights are binary (W1A32).

    Raises:
        ModelError: the frequency is not a positive finite number, or there is no such stage.

    Source: Vargas et al., "BiPer: Binary Neural Networks using a Periodic Function", CVPR 2024, section 3; the learned
    scale as in Bulat and Tzimiropoulos, "XNOR-Net++: Improved Binary Neural Networks", BMVC 2019.
    """

    scale: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | str | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        frequency: float = DEFAULT_FREQUENCY,
        stage: Stage | str | int = Stage.RELAXED,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
    ) -> None:
        causal = padding == "causal"
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            0 if causal else padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        if causal:
            self.padding = "causal"
            self._reversed_padding_repeated_twice = [self.dilation[0] * (self.kernel_size[0] - 1), 0]
        self.weight_quantizer, self.input_quantizer = default_quantizers(
            weight_quantizer, input_quantizer, frequency, stage
        )
        add_scale_(self, self.weight_quantizer)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to an input (N, in_channels, L) or (in_channels, L).

        Args:
            input: the input, floating point.

        Returns:
            The output, in the dtype of ``input``, or in that of autocast where it is on.

        Raises:
            ModelError: the input has another shape.
        """
        if input.dim() not in (2, 3) or input.shape[-2] != self.in_channels:
            raise ModelError(f"BinaryConv1d expected input (N, {self.in_channels}, L), got shape {tuple(input.shape)}")
        if input.dim() == 2:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        weight = self.forward_weight().unsqueeze(2)
        pads_zeros = not isinstance(self.padding, str) and self.padding_mode == "zeros"
        padding = (0, int(self.padding[0])) if pads_zeros else (0, 0)
        geometry = Geometry((1, self.stride[0]), padding, (1, self.dilation[0]))
        y, _ = convolve(self, input.unsqueeze(2), weight, geometry, None if pads_zeros else self._pad)
        return y.squeeze(2)

    def _pad(self, bits: Tensor) -> Tensor:
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(bits.squeeze(2), self._reversed_padding_repeated_twice, mode=mode).unsqueeze(2)
