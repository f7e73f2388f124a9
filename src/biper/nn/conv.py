"""`BinaryConv2d`, a drop-in replacement for `torch.nn.Conv2d`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ModelError
from biper.fast.availability import has_hooks
from biper.fast.convolution import Geometry
from biper.nn import fused
from biper.nn.latent import LatentWeightLayer
from biper.nn.quantized import add_scale_, default_quantizers
from biper.nn.scaled import scaled_convolution
from biper.quantizers import DEFAULT_FREQUENCY, Stage


class BinaryConv2d(LatentWeightLayer, nn.Conv2d):
    r"""Two-dimensional convolution with binary weights and, by default, binary inputs.

    It computes, with the input quantizer ``qa`` and the weight quantizer ``qw``:

        y = scale * conv2d(qa(x), qw(weight)) + bias

    ``weight`` is the latent weight, (out_channels, in_channels / groups, kh, kw). ``scale``, (out_channels,), is a
    parameter that starts at ``1 / sqrt(fan_in)``, so that the output of independent signs has unit variance. If the
    weight quantizer brings its own scale, ``scale`` is a buffer of ones instead. Padding adds zeros after binarization:
    a padded tap adds nothing to the output.

    The input is (N, in_channels, H, W) or (in_channels, H, W) in floating point, and the output has the shape that
    `torch.nn.Conv2d` gives it.

    Args:
        in_channels: the number of channels of the input.
        out_channels: the number of channels of the output.
        kernel_size: the height and width of the kernel, in pixels.
        stride: the step of the kernel, in pixels.
        padding: the pixels added on each side, or ``"same"`` or ``"valid"``.
        dilation: the distance between the taps of the kernel, in pixels.
        groups: the number of groups of channels that are convolved separately.
        bias: whether the layer adds a learned bias, (out_channels,).
        padding_mode: what is padded: zeros, or bits of the input in the modes of `torch.nn.Conv2d`.
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
    """One factor for each output channel, (out_channels,)."""

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

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to an input (N, in_channels, H, W) or (in_channels, H, W).

        Args:
            input: the input, floating point.

        Returns:
            The output, in the dtype of ``input``, or in that of autocast where it is on.

        Raises:
            ModelError: the input has another shape.
        """
        return self.branch(input)[0]

    def branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer to an input that a residual connection uses as well.

        Both uses of the input contribute to its gradient. The native kernels add the two contributions in the same
        pass over memory that computes the first, which is possible only if both go through this method.

        Args:
            x: the input, as in `forward`.

        Returns:
            The output of `forward`, and ``x`` for the residual connection.

        Raises:
            ModelError: the input has another shape.
        """
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ModelError(f"BinaryConv2d expected input (N, {self.in_channels}, H, W), got shape {tuple(x.shape)}")
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0), x
        pads_zeros = not isinstance(self.padding, str) and self.padding_mode == "zeros"
        if pads_zeros:
            return convolve(self, x, self.forward_weight(), Geometry.of(self), None)
        geometry = Geometry((self.stride[0], self.stride[1]), (0, 0), (self.dilation[0], self.dilation[1]))
        return convolve(self, x, self.forward_weight(), geometry, self._pad)

    def _pad(self, bits: Tensor) -> Tensor:
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(bits, self._reversed_padding_repeated_twice, mode=mode)


def convolve(
    layer: Any, x: Tensor, weight: Tensor, geometry: Geometry, pad: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Compute a binary convolution of one or two dimensions, in the native kernels where they fit.

    Args:
        layer: the layer, with its quantizers, ``scale``, ``bias`` and ``groups``.
        x: the input, (N, C, H, W).
        weight: the quantized weight, (O, C / groups, kh, kw).
        geometry: stride, padding with zeros, and dilation.
        pad: a function that pads the input's bits in another way than with zeros on both sides; None if there is none.

    Returns:
        The output, (N, O, H', W'), and ``x`` for a residual connection; see `BinaryConv2d.branch`.
    """
    if pad is None and fused.fits_convolution(x, weight, layer.input_quantizer, layer.groups):
        signs = layer.gives_scaled_signs
        y, x = fused.convolution(x, weight, layer.scale, layer.input_quantizer, geometry, signs)
    else:
        bits = layer.input_quantizer(x)
        bits = bits if pad is None else pad(bits)
        y = scaled_convolution(
            bits, weight, layer.scale, geometry.stride, geometry.padding, geometry.dilation, layer.groups
        )
    return y if layer.bias is None else y + layer.bias.to(y.dtype).view(-1, 1, 1), x


def branch(convolution: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Apply any convolution to an input that a residual connection uses as well; see `BinaryConv2d.branch`.

    Args:
        convolution: a module; a `BinaryConv2d` without hooks takes the fast way.
        x: its input.

    Returns:
        ``convolution(x)``, and ``x`` for the residual connection.
    """
    if isinstance(convolution, BinaryConv2d) and not has_hooks(convolution):
        return convolution.branch(x)
    return convolution(x), x
