"""Binary layers: drop-in replacements for `torch.nn.Conv2d` and `torch.nn.Linear`."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biper import fused, kernels
from biper.errors import ModelError
from biper.kernels import Geometry
from biper.quantizers import ApproxSign, PeriodicSign, Quantizer, Stage

DEFAULT_FREQUENCY = 20.0
"""ω of the paper's experiments, in radians per unit of latent weight."""


def _in_autocast_dtype(*operands: Tensor) -> tuple[Tensor, ...]:
    """The operands in the dtype that autocast asks for, if it is on."""
    device = operands[0].device.type
    if not torch.is_autocast_enabled(device):
        return operands
    return tuple(operand.to(torch.get_autocast_dtype(device)) for operand in operands)


class _ScaledConvolution(torch.autograd.Function):
    """``scale * conv2d(x, w)`` that saves the two operands and never the product.

    With ``G`` the weight gradient of the unscaled convolution for the incoming gradient ``g``:
    ``dw = scale G``, ``dscale = sum(w G)`` (because the output is linear in ``w``) and
    ``dx = conv2d_input(scale w, g)``. The autograd of ``conv2d(...) * scale`` would keep the convolution's
    output, a tensor of the size of the activations, only to get ``dscale``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.original_dtypes = x.dtype, weight.dtype
        x, weight = _in_autocast_dtype(x, weight)
        ctx.save_for_backward(x, weight, scale)
        ctx.geometry = stride, padding, dilation, False, (0, 0), groups
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, None, stride, padding, dilation, groups) * scale.to(x.dtype).view(-1, 1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        channel_scale = scale.to(weight.dtype).view(-1, 1, 1, 1)
        backward = torch.ops.aten.convolution_backward
        grad_x = grad_weight = grad_scale = None
        if ctx.needs_input_grad[0]:
            grad_x = backward(grad, x, weight * channel_scale, None, *ctx.geometry, (True, False, False))[0]
            grad_x = grad_x.to(ctx.original_dtypes[0])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            unscaled = backward(grad, x, weight, None, *ctx.geometry, (False, True, False))[1]
            grad_weight = (unscaled * channel_scale).to(ctx.original_dtypes[1])
            grad_scale = (unscaled * weight).sum((1, 2, 3), dtype=scale.dtype)
        return grad_x, grad_weight, grad_scale, None, None, None, None


class _ScaledLinear(torch.autograd.Function):
    """``scale * (x w^T)``, the same for matrices: ``dw = scale G``, ``dscale = sum(w G)``, ``dx = g (scale w)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.original_dtypes = x.dtype, weight.dtype
        x, weight = _in_autocast_dtype(x, weight)
        ctx.save_for_backward(x, weight, scale)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, weight) * scale.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        channel_scale = scale.to(weight.dtype).view(-1, 1)
        grad_x = grad_weight = grad_scale = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ (weight * channel_scale)).to(ctx.original_dtypes[0])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            unscaled = grad.flatten(0, -2).T @ x.flatten(0, -2)
            grad_weight = (unscaled * channel_scale).to(ctx.original_dtypes[1])
            grad_scale = (unscaled * weight).sum(1, dtype=scale.dtype)
        return grad_x, grad_weight, grad_scale


def _default_quantizers(
    weight_quantizer: nn.Module | None, input_quantizer: nn.Module | None, frequency: float, stage: Stage | str | int
) -> tuple[nn.Module, nn.Module]:
    if weight_quantizer is None:
        weight_quantizer = PeriodicSign(frequency, stage)
    if input_quantizer is None:
        input_quantizer = ApproxSign(normalize=True)
    return weight_quantizer, input_quantizer


def _add_scale_(layer: nn.Conv2d | nn.Linear, weight_quantizer: nn.Module) -> None:
    """Give a layer its scale: learned, or constant ones where the weights have a magnitude of their own."""
    weight = layer.weight
    if isinstance(weight_quantizer, Quantizer) and weight_quantizer.scaled:
        layer.register_buffer("scale", weight.new_ones(len(weight)))
    else:
        start = weight.new_full((len(weight),), weight[0].numel() ** -0.5)
        layer.register_parameter("scale", nn.Parameter(start))


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
        self.weight_quantizer, self.input_quantizer = _default_quantizers(
            weight_quantizer, input_quantizer, frequency, stage
        )
        _add_scale_(self, self.weight_quantizer)

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
        y = _ScaledConvolution.apply(a, weight, self.scale, self.stride, padding, self.dilation, self.groups)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1), x


def branch(convolution: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """``convolution(x)``, and ``x`` for a residual; see `BinaryConv2d.branch`."""
    if isinstance(convolution, BinaryConv2d) and fused.is_unwatched(convolution):
        return convolution.branch(x)
    return convolution(x), x


_NO_ACTIVATION = nn.Identity()


def norm_activation(norm: nn.Module, x: Tensor, activation: nn.Module, residual: Tensor | None = None) -> Tensor:
    """``activation(norm(x) + residual)``, in one pass where it can be; ``x`` may be overwritten."""
    clamp = activation if fused.bounds_of(activation) is not None else _NO_ACTIVATION
    if fused.fits_norm(norm, x, residual, clamp):
        assert isinstance(norm, nn.BatchNorm2d)
        out = fused.norm_activation(norm, x, residual, clamp)
        return out if clamp is activation else activation(out)
    out = norm(x)
    if residual is not None:
        out += residual
    return activation(out)


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
        self.weight_quantizer, self.input_quantizer = _default_quantizers(
            weight_quantizer, input_quantizer, frequency, stage
        )
        _add_scale_(self, self.weight_quantizer)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; see the class."""
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ModelError(f"BinaryLinear expected input (N, {self.in_features}), got shape {tuple(x.shape)}")
        if x.dim() == 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        y = _ScaledLinear.apply(self.input_quantizer(x), self.weight_quantizer(self.weight), self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def describe_kernels(model: nn.Module, device: str, dtype: torch.dtype, compiled: bool = False) -> str:
    """A line on which of a model's binary convolutions train in `biper.kernels`, and why others do not.

    Args:
        model: any module.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: what it computes in.
        compiled: whether it goes through `torch.compile`.
    """
    reason = "torch.compile fuses operators in its own way" if compiled else None
    reason = "they are for CPUs" if device != "cpu" else reason or kernels.why_not(dtype)
    if reason is not None:
        return f"native training kernels: off, {reason}"
    layers = [layer for layer in binary_layers(model).values() if isinstance(layer, BinaryConv2d)]
    reasons = [fused.why_not_convolution(layer.weight, layer.input_quantizer, layer.groups) for layer in layers]
    others = Counter(reason for reason in reasons if reason is not None)
    left = "".join(f"; {count} use torch's operators for {reason}" for reason, count in others.items())
    return f"native training kernels: on for {len(layers) - others.total()} of {len(layers)} binary convolutions{left}"


BINARY_LAYERS = (BinaryConv2d, BinaryLinear)
"""The layer types that hold latent weights."""


def binary_layers(model: nn.Module) -> dict[str, BinaryConv2d | BinaryLinear]:
    """The binary layers of a model by their qualified names, in the order of `named_modules`."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BINARY_LAYERS)}


def periodic_weights(model: nn.Module) -> dict[str, tuple[Tensor, PeriodicSign]]:
    """The latent weight and the quantizer of each binary layer with a `PeriodicSign`, by the layer's qualified name."""
    return {
        name: (layer.weight, layer.weight_quantizer)
        for name, layer in binary_layers(model).items()
        if isinstance(layer.weight_quantizer, PeriodicSign)
    }


def set_stage_(model: nn.Module, stage: Stage | str | int) -> nn.Module:
    """Put every `PeriodicSign` of a model into a stage, in place: ``"relaxed"`` (1) or ``"binary"`` (2).

    Returns:
        The same model.

    Raises:
        ModelError: the stage does not exist.
    """
    stage = Stage.of(stage)
    for module in model.modules():
        if isinstance(module, PeriodicSign):
            module.stage = stage
    return model


def set_progress_(model: nn.Module, fraction: float) -> nn.Module:
    """Tell every quantizer of a model how much of the stage training has done, in place: above 0, up to 1.

    What a method changes on the way (an estimator's steepness, a frequency) is a function of this number alone, so
    that a resumed run goes on with the same bits.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.set_progress(fraction)
    return model
