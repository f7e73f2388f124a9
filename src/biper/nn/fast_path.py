"""A line on which layers of a model train in the native kernels, and the reason for those that do not."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from biper.fast.availability import unavailable_reason
from biper.nn.conv import BinaryConv2d
from biper.nn.fused import unfused_reason
from biper.nn.walk import binary_layers


def describe_fast_path(model: nn.Module, device: str, dtype: torch.dtype, compiled: bool = False) -> str:
    """A line on which of a model's binary convolutions train in `biper.fast`, and why others do not.

    Args:
        model: any module.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: what it computes in.
        compiled: whether it goes through `torch.compile`.
    """
    reason = "torch.compile fuses operators in its own way" if compiled else None
    reason = "they are for CPUs" if device != "cpu" else reason or unavailable_reason(dtype)
    if reason is not None:
        return f"native training kernels: off, {reason}"
    layers = [layer for layer in binary_layers(model).values() if isinstance(layer, BinaryConv2d)]
    reasons = [unfused_reason(layer.weight, layer.input_quantizer, layer.groups) for layer in layers]
    others = Counter(reason for reason in reasons if reason is not None)
    left = "".join(f"; {count} use torch's operators for {reason}" for reason, count in others.items())
    return f"native training kernels: on for {len(layers) - others.total()} of {len(layers)} binary convolutions{left}"
