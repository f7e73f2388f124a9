"""`BinaryConv1d`: a drop-in replacement for `torch.nn.Conv1d`, with causal padding beside torch's."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ModelError
from biper.fast.lookup import Geometry
from biper.nn import fused
from biper.nn.quantized import DEFAULT_FREQUENCY, add_scale_, default_quantizers
from biper.nn.scaled import ScaledConvolution
from biper.quantizers import Quantizer, Stage


class BinaryConv1d(nn.Conv1d):
    r"""One-dimensional convolution with binary weights and (by default) binary inputs.

    .. math:: y = \text{scale} \cdot \text{conv1d}(q_a(x),\, q_w(\text{weight})) + \text{bias}

    ``weight`` is the latent weight, (out_channels, in_channels / groups, k); ``scale`` is learned, (out_channels,), and
    starts at ``1 / sqrt(fan_in)``. Padding adds zeros after binarization: a padded tap adds nothing. The computation is
    that of `BinaryConv2d` on signals of height 1.

    Takes all arguments of `torch.nn.Conv1d` (groups, dilation, bias, padding modes), and those of `BinaryConv2d`.

    Args:
        padding: as in torch, or ``"causal"``: zeros in front alone, ``dilation * (k - 1)`` of them, so that an output
            depends on no later input.

    Shapes:
        input (N, in_channels, L) or (in_channels, L), floating point; output as `torch.nn.Conv1d` says.

    Source: Vargas et al., CVPR 2024, section 3; the scale as in XNOR-Net++ (learned).
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
        torch_padding = 0 if causal else padding
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            torch_padding,
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

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class."""
        if x.dim() not in (2, 3) or x.shape[-2] != self.in_channels:
            raise ModelError(f"BinaryConv1d expected input (N, {self.in_channels}, L), got shape {tuple(x.shape)}")
        if x.dim() == 2:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        weight, image = self.weight_quantizer(self.weight).unsqueeze(2), x.unsqueeze(2)
        stride, dilation = (1, self.stride[0]), (1, self.dilation[0])
        padding = (0, 0) if isinstance(self.padding, str) else (0, self.padding[0])
        pads_zeros = not isinstance(self.padding, str) and self.padding_mode == "zeros"
        if pads_zeros and fused.fits_convolution(image, weight, self.input_quantizer, self.groups):
            are_signs = isinstance(self.weight_quantizer, Quantizer) and self.weight_quantizer.gives_signs
            geometry = Geometry(stride, padding, dilation)
            y, _ = fused.convolution(image, weight, self.scale, self.input_quantizer, geometry, are_signs)
        else:
            a = self.input_quantizer(image)
            if not pads_zeros:
                mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
                a = F.pad(a.squeeze(2), self._reversed_padding_repeated_twice, mode=mode).unsqueeze(2)
                padding = (0, 0)
            y = ScaledConvolution.apply(a, weight, self.scale, stride, padding, dilation, self.groups)
        y = y.squeeze(2)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1)
