"""`BinaryConv2d`: a drop-in replacement for `torch.nn.Conv2d`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ModelError
from biper.fast.availability import has_hooks
from biper.fast.lookup import Geometry
from biper.nn import fused
from biper.nn.quantized import DEFAULT_FREQUENCY, add_scale_, default_quantizers
from biper.nn.scaled import ScaledConvolution
from biper.quantizers import Quantizer, Stage


class BinaryConv2d(nn.Conv2d):
    r"""Convolution with binary weights and (by default) binary inputs.

    .. math:: y = \text{scale} \cdot \text{conv2d}(q_a(x),\, q_w(\text{weight})) + \text{bias}

    ``weight`` is the latent weight, (out_channels, in_channels / groups, kh, kw); ``scale`` is learned, one
    number a channel of the output, (out_channels,), and starts at ``1 / sqrt(fan_in)`` so that the output of
    independent signs has unit variance; where the weight quantizer has a magnitude of its own, it is constant ones.
    Padding adds zeros after binarization: a padded tap adds nothing.

    Takes all arguments of `torch.nn.Conv2d` (groups, dilation, bias, padding modes) and these:

    Args:
        frequency: ω of the default weight quantizer, in radians per unit of weight.
        stage: ``"relaxed"`` or ``"binary"`` (or 1, 2), of the default weight quantizer.
        weight_quantizer: a module that maps latent weights to bits; default ``PeriodicSign(frequency, stage)``.
        input_quantizer: a module that maps inputs to bits; default ``ApproxSign(normalize=True)``;
            ``torch.nn.Identity()`` for binary weights alone (W1A32).

    Shapes:
        input (N, in_channels, H, W) or (in_channels, H, W), floating point; output as `torch.nn.Conv2d` says.

    Source: Vargas et al., CVPR 2024, section 3; the scale as in XNOR-Net++ (learned).
    """

    scale: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | str | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
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
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.weight_quantizer, self.input_quantizer = default_quantizers(
            weight_quantizer, input_quantizer, frequency, stage
        )
        add_scale_(self, self.weight_quantizer)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class."""
        return self.branch(x)[0]

    def branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer, and hand ``x`` on for a residual: where both ways join, their gradients take one pass."""
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ModelError(f"BinaryConv2d expected input (N, {self.in_channels}, H, W), got shape {tuple(x.shape)}")
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0), x
        weight, padding = self.weight_quantizer(self.weight), self.padding
        pads_zeros = not isinstance(padding, str) and self.padding_mode == "zeros"
        if pads_zeros and fused.fits_convolution(x, weight, self.input_quantizer, self.groups):
            are_signs = isinstance(self.weight_quantizer, Quantizer) and self.weight_quantizer.gives_signs
            y, x = fused.convolution(x, weight, self.scale, self.input_quantizer, Geometry.of(self), are_signs)
            return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1), x
        a = self.input_quantizer(x)
        if not pads_zeros:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            a = F.pad(a, self._reversed_padding_repeated_twice, mode=mode)
            padding = (0, 0)
        y = ScaledConvolution.apply(a, weight, self.scale, self.stride, padding, self.dilation, self.groups)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1), x


def branch(convolution: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """``convolution(x)``, and ``x`` for a residual; see `BinaryConv2d.branch`."""
    if isinstance(convolution, BinaryConv2d) and not has_hooks(convolution):
        return convolution.branch(x)
    return convolution(x), x
