"""Turning a real layer into a binary one and back, in place: the object stays, its type changes."""

from __future__ import annotations

from typing import Any

from torch import nn

from biper.nn.conv import BinaryConv2d
from biper.nn.conv1d import BinaryConv1d
from biper.nn.linear import BinaryLinear
from biper.nn.quantized import add_scale_

BINARY_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: BinaryConv1d,
    nn.Conv2d: BinaryConv2d,
    nn.Linear: BinaryLinear,
}
"""The binary form of each layer type."""


def make_binary_(layer: nn.Module, weight_quantizer: nn.Module, input_quantizer: nn.Module) -> None:
    """Give a real layer quantizers and a scale, and make it a binary layer.

    The layer stays the same object: its parameters, hooks, mode and place in the model are kept.

    Args:
        layer: a `torch.nn.Conv1d`, `torch.nn.Conv2d` or `torch.nn.Linear`, or a subclass that computes the same.
        weight_quantizer: a module that maps latent weights to bits.
        input_quantizer: a module that maps inputs to bits, or `torch.nn.Identity`.
    """
    weight: Any = layer.weight
    layer.__class__ = next(binary for real, binary in BINARY_OF.items() if isinstance(layer, real))
    for name, quantizer in (("weight_quantizer", weight_quantizer), ("input_quantizer", input_quantizer)):
        setattr(layer, name, quantizer.to(weight.device, weight.dtype).train(layer.training))
    add_scale_(layer, weight_quantizer)  # type: ignore[arg-type]


def make_real_(layer: nn.Module) -> None:
    """Take the quantizers and the scale from a binary layer: it is the real layer again that `make_binary_` took."""
    real = next(kind for kind, binary in BINARY_OF.items() if isinstance(layer, binary))
    del layer.weight_quantizer, layer.input_quantizer, layer.scale
    layer.__dict__.pop("real_weights", None)
    layer.__class__ = real
