"""A one-line description of which layers of a model train in the native kernels."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from biper.fast.availability import kernels_in_use, unavailable_reason
from biper.nn.conv import BinaryConv2d
from biper.nn.fused import unfused_reason
from biper.nn.walk import binary_layers


def describe_fast_path(model: nn.Module, device: str, dtype: torch.dtype, compiled: bool = False) -> str:
    """Describe in one line how many binary convolutions of a model train in the native kernels, and why others do not.

    Args:
        model: any module.
        device: the type of the device that trains the model, such as ``"cpu"`` or ``"cuda"``.
        dtype: the dtype of the activations.
        compiled: whether `torch.compile` compiles the model.

    Returns:
        A line of text that begins with ``"native training kernels: "``.
    """
    reason = "torch.compile fuses operators in its own way" if compiled else None
    reason = "they are for CPUs" if device != "cpu" else reason or unavailable_reason(dtype)
    if reason is not None:
        return f"native training kernels: off, {reason}"
    layers = [layer for layer in binary_layers(model).values() if isinstance(layer, BinaryConv2d)]
    reasons = [unfused_reason(layer.weight, layer.input_quantizer, layer.groups) for layer in layers]
    others = Counter(reason for reason in reasons if reason is not None)
    left = "".join(f"; {count} use torch's operators for {reason}" for reason, count in others.items())
    count = f"{len(layers) - others.total()} of {len(layers)}"
    return f"native training kernels: on ({kernels_in_use()}) for {count} binary convolutions{left}"
