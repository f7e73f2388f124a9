"""The binary convolution as a custom torch operator, so that `torch.export` keeps a binary layer as one node."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.nn import BinaryLayer, BinaryLinear
from biper.quantizers import sign


@torch.library.custom_op("biper::binary_conv2d", mutates_args=())
def binary_conv2d(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    binary_input: bool,
) -> Tensor:
    """Compute ``scale * conv2d(sign(x), weight) + bias``, with ``x`` in place of its sign unless ``binary_input``.

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, kh, kw) of -1 and +1.
        scale, bias: (O,), one number for each output channel.
        stride, dilation, groups: as in torch's convolutions.
        padding: (left, right, top, bottom); zeros are added after the signs are taken.
        binary_input: whether the signs of ``x`` are taken.
    """
    bits = sign(x) if binary_input else x
    y = F.conv2d(F.pad(bits, padding), weight, None, stride, 0, dilation, groups) * scale.view(-1, 1, 1)
    return y if bias is None else y + bias.view(-1, 1, 1)


@binary_conv2d.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,  # noqa: ARG001
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    binary_input: bool,  # noqa: ARG001
) -> Tensor:
    return F.conv2d(F.pad(x, padding), weight, bias, stride, 0, dilation, groups)


class Replacement(nn.Module):
    """Stands for a layer while a model is traced; attributes that it lacks, as ``kernel_size``, are the layer's."""

    _replaced: tuple[nn.Module, ...] = ()

    def standing_for(self, layer: nn.Module) -> Self:
        """Take the attributes that are missing from a layer, which is not registered as a part; returns itself."""
        self._replaced = (layer,)
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if not self._replaced:
                raise
            return getattr(self._replaced[0], name)


class ExportedLayer(Replacement):
    """Replaces a binary layer while a model is traced, by one operator: ``scale * conv(sign(x), bits) + bias``.

    Args:
        layer: the layer that it replaces; says whether it is linear, and its geometry.
        bits: -1 and +1, in the shape of the layer's weight.
        scale: (out,).
        bias: (out,) or None.
        binary_input: whether the signs of the input are taken, or the input itself.
        geometry: another geometry than the layer's; None for the layer's.
    """

    def __init__(
        self,
        layer: BinaryLayer,
        bits: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        binary_input: bool,
        geometry: Geometry | None = None,
    ) -> None:
        super().__init__()
        self.bits: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.is_linear = isinstance(layer, BinaryLinear)
        self.binary_input = binary_input
        self.geometry = geometry_of(layer) if geometry is None else geometry
        self.register_buffer("bits", bits.reshape(*bits.shape, 1, 1) if self.is_linear else bits)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        maps = as_maps(x) if self.is_linear else x
        y: Tensor = binary_conv2d(maps, self.bits, self.scale, self.bias, *self.geometry, self.binary_input)
        if not self.is_linear:
            return y
        return y.flatten(1) if x.dim() == 2 and len(x) == 1 else from_maps(y, x)


def as_maps(x: Tensor) -> Tensor:
    """The input (..., features) of a linear layer as one map (1, features, R, 1) whose pixels are its R rows.

    All rows are of one map, wherever the axis of the batch is: a model may have put it behind others, or windows or
    frames of an image into it.
    """
    if x.dim() == 2 and len(x) == 1:
        return x.reshape(*x.shape, 1, 1)
    return x.reshape(1, -1, x.shape[-1]).transpose(1, 2).unsqueeze(-1)


def from_maps(y: Tensor, x: Tensor) -> Tensor:
    """The rows (..., out) of a map (1, out, R, 1), in the shape that ``x`` (..., features) has."""
    return y.squeeze(-1).transpose(1, 2).reshape(*x.shape[:-1], y.shape[1]).contiguous()


Geometry = tuple[list[int], list[int], list[int], int]
"""Stride, padding (left, right, top, bottom), dilation and groups of a convolution."""

NO_GEOMETRY: Geometry = ([1, 1], [0, 0, 0, 0], [1, 1], 1)
"""The geometry of a linear layer as a convolution of a map of one pixel."""


def geometry_of(layer: BinaryLayer) -> Geometry:
    """The geometry of a binary layer, as a convolution."""
    if isinstance(layer, BinaryLinear):
        return NO_GEOMETRY
    return list(layer.stride), list(layer._reversed_padding_repeated_twice), list(layer.dilation), layer.groups
