"""Our layers as custom torch operators, so that `torch.export` keeps each as one node."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ExportError
from biper.nn import BinaryConv2d, BinaryLinear, binary_layers
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
    """``scale * conv2d(sign(x), weight) + bias`` with a weight of -1 and +1; ``x`` as it is unless ``binary_input``.

    ``padding`` is (left, right, top, bottom), of zeros, after the signs.
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


class ExportedLayer(nn.Module):
    """Stands in for a binary layer while a model is traced: constant bits, one operator."""

    def __init__(self, layer: BinaryConv2d | BinaryLinear, name: str) -> None:
        super().__init__()
        with torch.no_grad():
            bits = layer.weight_quantizer(layer.weight)
            if not torch.equal(bits.abs(), torch.ones_like(bits)):
                raise ExportError(
                    f"{name}: its weights are not all -1 or +1; put the model into stage 2 first: "
                    'biper.set_stage_(model, "binary")'
                )
            probe = torch.tensor([[-1.5, -0.25, -0.0, 0.0, 0.25, 1.5]], dtype=bits.dtype, device=bits.device)
            self.binary_input = not torch.equal(layer.input_quantizer(probe), probe)
            if self.binary_input and not torch.equal(layer.input_quantizer(probe), sign(probe)):
                raise ExportError(f"{name}: its input quantizer is neither a sign (with sign(0) = +1) nor the identity")
        self.bits: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.is_linear = isinstance(layer, BinaryLinear)
        self.register_buffer("bits", bits.detach().reshape(*bits.shape, 1, 1) if self.is_linear else bits.detach())
        self.register_buffer("scale", layer.scale.detach())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        if isinstance(layer, BinaryConv2d):
            if layer.padding_mode != "zeros":
                raise ExportError(f'{name}: padding_mode="{layer.padding_mode}" is not supported; use "zeros"')
            self.padding = list(layer._reversed_padding_repeated_twice)
            self.geometry = list(layer.stride), self.padding, list(layer.dilation), layer.groups
        else:
            self.geometry = [1, 1], [0, 0, 0, 0], [1, 1], 1

    def forward(self, x: Tensor) -> Tensor:
        maps = x.reshape(*x.shape, 1, 1) if self.is_linear else x
        y = binary_conv2d(maps, self.bits, self.scale, self.bias, *self.geometry, self.binary_input)
        return y.flatten(1) if self.is_linear else y


def with_exported_layers(model: nn.Module) -> nn.Module:
    """A copy of a model in evaluation mode, on the CPU, whose binary layers are single operators.

    Raises:
        ExportError: a layer's weights are not bits, or one of its options is not supported.
    """
    model = copy.deepcopy(model).cpu().eval()
    stand_ins: dict[nn.Module | None, nn.Module] = {
        layer: ExportedLayer(layer, name) for name, layer in binary_layers(model).items()
    }
    if model in stand_ins:
        return stand_ins[model]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in stand_ins:
                setattr(parent, name, stand_ins[child])
    return model.eval()
