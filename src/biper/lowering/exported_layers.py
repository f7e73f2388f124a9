"""Replaces binary layers by `ExportedLayer`s, which multiply signs by bits, and by what a method adds to that.

With weights ``β + α t`` (t the bits), inputs ``b + a s`` (s the signs) and zero padding after binarization, a layer is

    scale * conv(b + a s, β + α t) + bias  =    scale α a * conv(s, t) + bias       the integer sums that are packed
                                              + scale β a * conv(s, 1)              sums over a window, one channel
                                              + scale * conv(b, β + α t)            the same for every image

The last term is one number for each channel, except in windows that reach over the border, where padded taps add
nothing. Methods whose values are -1 and +1, or -α and +α, need only the first term.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ExportError
from biper.lowering.custom_ops import NO_GEOMETRY, ExportedLayer, Replacement, geometry_of
from biper.nn import BinaryConv1d, BinaryConv2d, BinaryLayer, BinaryLinear, binary_layers
from biper.quantizers import PeriodicSign, Quantizer, Stage, sign

PROBE = (-1.5, -0.25, -0.0, 0.0, 0.25, 1.5)
"""Inputs on which an input quantizer is tried to find its two values."""


class ShiftedLayer(Replacement):
    """Replaces a binary layer whose weights or inputs have other values than -1 and +1.

    The module's docstring has the formula; ``signs``, ``sums`` and ``ones`` compute its three terms, the last only
    where there is padding.

    Args:
        layer: the layer to replace.
        bits: its weight bits as -1 and +1, in the shape of its weight.
        weight: the levels of its weights (α, β), of shape () or one for each output channel.
        inputs: the levels of its inputs (a, b), each of shape (); None for inputs that stay real.
    """

    def __init__(self, layer: BinaryLayer, bits: Tensor, weight: Levels, inputs: Levels | None) -> None:
        super().__init__()
        self.input_quantizer = layer.input_quantizer if inputs is not None else nn.Identity()
        a, b = inputs if inputs is not None else (bits.new_ones(()), bits.new_zeros(()))
        scale, bias = layer.scale.detach(), None if layer.bias is None else layer.bias.detach()
        alpha, beta = (level.expand(len(bits), *[1] * (bits.dim() - 1)).flatten() for level in weight)
        stride, padding, dilation, groups = geometry_of(layer)
        binary_input = inputs is not None
        self.is_linear = isinstance(layer, BinaryLinear)
        self.sum_weight: Tensor
        self.tap_weight: Tensor
        self.sums: ExportedLayer | None = None
        self.ones: ExportedLayer | None = None
        if beta.any():
            one = torch.ones_like(bits[:groups])
            self.sums = ExportedLayer(layer, one, scale.new_ones(groups), None, binary_input)
            self.register_buffer("sum_weight", (scale * beta * a).view(-1, *[1] * (bits.dim() - 1)))
        if b != 0:
            taps = b * _of_channels(scale, bits) * (_of_channels(beta, bits) + _of_channels(alpha, bits) * bits)
            if any(padding):
                one = bits.new_ones(1, len(bits[0]) * groups, 1, 1)
                self.ones = ExportedLayer(layer, one, scale.new_zeros(1), scale.new_ones(1), True, NO_GEOMETRY)
                self.register_buffer("tap_weight", taps.sum(1, keepdim=True))
                self.tap_geometry: Any = {"stride": stride, "padding": layer.padding, "dilation": dilation}
            else:
                constant = taps.flatten(1).sum(1)
                bias = constant if bias is None else bias + constant
        self.signs = ExportedLayer(layer, bits, scale * alpha * a, bias, binary_input)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        v = self.input_quantizer.sign_argument(x) if isinstance(self.input_quantizer, Quantizer) else x
        y: Tensor = self.signs(v)
        if self.sums is not None:
            window = self.sums(v)
            if self.is_linear:
                y = y + F.linear(window, self.sum_weight)
            else:
                y = y + F.conv2d(window, self.sum_weight, groups=self.groups)
        if self.ones is not None:
            y = y + F.conv2d(self.ones(v), self.tap_weight, None, **self.tap_geometry)
        return y


class ExportedSignalLayer(Replacement):
    """Replaces a `BinaryConv1d`: the replacement of the `BinaryConv2d` that computes the same on images of height 1."""

    def __init__(self, layer: BinaryConv1d, name: str) -> None:
        super().__init__()
        self.on_images = exported_layer(_on_images(layer), name)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.on_images(x.unsqueeze(2)).squeeze(2)
        return result


def _on_images(layer: BinaryConv1d) -> BinaryConv2d:
    """The two-dimensional layer that computes on (N, C, 1, L) what a layer computes on (N, C, L)."""
    causal = layer.padding == "causal"
    padding: Any = layer.padding if isinstance(layer.padding, str) else (0, layer.padding[0])
    image = BinaryConv2d(
        layer.in_channels,
        layer.out_channels,
        (1, layer.kernel_size[0]),
        (1, layer.stride[0]),
        0 if causal else padding,
        (1, layer.dilation[0]),
        layer.groups,
        layer.bias is not None,
        weight_quantizer=layer.weight_quantizer,
        input_quantizer=layer.input_quantizer,
    ).to(layer.weight.dtype)
    if causal:
        image._reversed_padding_repeated_twice = [*layer._reversed_padding_repeated_twice, 0, 0]
    image.weight.data = layer.weight.detach().unsqueeze(2)
    image.scale.data = layer.scale.detach()
    if image.bias is not None and layer.bias is not None:
        image.bias.data = layer.bias.detach()
    return image.train(layer.training)


Levels = tuple[Tensor, Tensor]
"""The scale and the offset of two values: they are ``offset - scale`` and ``offset + scale``."""


def _of_channels(numbers: Tensor, bits: Tensor) -> Tensor:
    """One number for each output channel, in a shape that broadcasts over the weight."""
    return numbers.view(-1, *[1] * (bits.dim() - 1))


def exported_layer(layer: BinaryLayer, name: str) -> Replacement:
    """A module that computes the same as a binary layer in evaluation mode, from constant bits, in few operators.

    Args:
        layer: a binary layer in stage 2.
        name: its qualified name, for messages.

    Raises:
        ExportError: weights or inputs have more than two values, the padding is not of zeros, or the
            `scale_and_offset` of a quantizer are not what it computes.
    """
    if layer.real_weights:
        raise ExportError(
            f'{name}: its weights are real in stage "inputs"; train stage 1 and stage 2, then put the model into '
            'stage 2: biper.set_stage_(model, "binary")'
        )
    if not isinstance(layer, BinaryLinear) and layer.padding_mode != "zeros":
        raise ExportError(f'{name}: padding_mode="{layer.padding_mode}" is not supported; use "zeros"')
    if isinstance(layer, BinaryConv1d):
        return ExportedSignalLayer(layer, name)
    with torch.no_grad():
        bits, weight = _weight_bits(layer, name)
        inputs, shifts = _input_levels(layer, name)
        if not shifts and not weight[1].any():
            scale = layer.scale * weight[0].expand(len(bits), *[1] * (bits.dim() - 1)).flatten()
            bias = None if layer.bias is None else layer.bias.detach()
            return ExportedLayer(layer, bits, scale, bias, inputs is not None)
        result = ShiftedLayer(layer, bits, weight, inputs)
        _require_equal(layer, result, name)
    return result


def _weight_bits(layer: BinaryLayer, name: str) -> tuple[Tensor, Levels]:
    """The weight bits of a layer as -1 and +1, and the levels of its weights."""
    quantizer, latent = layer.weight_quantizer, layer.weight.detach()
    values = quantizer(latent)
    levels = latent.new_ones(()), latent.new_zeros(())
    if isinstance(quantizer, Quantizer):
        bits, levels = sign(quantizer.sign_argument(latent)), quantizer.scale_and_offset(latent)
        _require_levels(levels, (len(bits), *[1] * (bits.dim() - 1)), quantizer, name)
    else:
        bits = sign(values)
    if not torch.allclose(values, levels[1] + levels[0] * bits, rtol=1e-5, atol=0):
        is_relaxed = isinstance(quantizer, PeriodicSign) and quantizer.stage is not Stage.BINARY
        if not is_relaxed and _has_two_values(values):
            raise ExportError(
                f"{name}: the two values of its weights are not offset + scale * sign(sign_argument(weight)); "
                f"{type(quantizer).__name__} must define these as biper.quantizers.Quantizer says"
            )
        raise ExportError(
            f"{name}: its weights have more than two values; put the model into stage 2 first: "
            'biper.set_stage_(model, "binary")'
        )
    return bits, levels


def _has_two_values(weight: Tensor) -> bool:
    """Whether the weights of each output channel have at most two values."""
    rows = weight.flatten(1)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    return bool((torch.isclose(rows, low) | torch.isclose(rows, high)).all())


def _require_levels(levels: Levels, shape: tuple[int, ...], quantizer: Quantizer, name: str) -> None:
    """Check that the scale and the offset of a quantizer broadcast to a shape."""
    for level in levels:
        try:
            level.expand(shape)
        except RuntimeError:
            raise ExportError(
                f"{name}: scale_and_offset of {type(quantizer).__name__} must return tensors that broadcast to "
                f"{shape}, got shape {tuple(level.shape)}"
            ) from None


def _input_levels(layer: BinaryLayer, name: str) -> tuple[Levels | None, bool]:
    """The levels of the inputs, None where they stay real; and whether there is more to them than the sign."""
    quantizer = layer.input_quantizer
    probe = torch.tensor(PROBE, dtype=layer.weight.dtype).view(-1, 1)
    probe = probe.expand(-1, layer.in_features) if isinstance(layer, BinaryLinear) else probe[..., None, None]
    if isinstance(layer, BinaryConv2d):
        probe = probe.expand(-1, layer.in_channels, 1, 1)
    values = quantizer(probe)
    if torch.equal(values, probe):
        return None, False
    levels = probe.new_ones(()), probe.new_zeros(())
    real = probe
    if isinstance(quantizer, Quantizer):
        real, levels = quantizer.sign_argument(probe), quantizer.scale_and_offset(probe)
        _require_levels(levels, (1,) * probe.dim(), quantizer, name)
    if not torch.allclose(values, levels[1] + levels[0] * sign(real)):
        raise ExportError(
            f"{name}: its input quantizer has not the two values of a sign (with sign(0) = +1), nor is it the identity"
        )
    return levels, not torch.equal(real, probe) or bool(levels[0] != 1 or levels[1] != 0)


def _require_equal(layer: BinaryLayer, result: nn.Module, name: str) -> None:
    """Check that both compute the same on noise that is larger than the layer's window, so that borders count."""
    noise = torch.Generator().manual_seed(0)
    shape: tuple[int, ...] = (4, layer.in_features) if isinstance(layer, BinaryLinear) else ()
    if isinstance(layer, BinaryConv2d):
        sizes = [d * (k - 1) + 3 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        shape = (4, layer.in_channels, *sizes)
    x = torch.randn(shape, generator=noise).to(layer.weight.dtype)
    expected, actual = layer(x), result(x)
    difference = (expected - actual).abs().max() / expected.abs().max().clamp(min=1e-30)
    if not difference < 1e-4:
        raise ExportError(
            f"{name}: signs, scales and offsets are not what its quantizers compute: results differ by "
            f"{difference:.1e} of the largest"
        )


def with_exported_layers(model: nn.Module) -> nn.Module:
    """A copy of a model in evaluation mode, on the CPU, whose binary layers are replaced by `exported_layer`.

    Raises:
        ExportError: a layer's weights are not bits, or one of its options is not supported.
    """
    model = copy.deepcopy(model).cpu().eval()
    replacements: dict[nn.Module | None, nn.Module] = {
        layer: exported_layer(layer, name).standing_for(layer) for name, layer in binary_layers(model).items()
    }
    if model in replacements:
        return replacements[model]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])
    return model.eval()
