"""How activations are handed to the native kernels: their shape as numbers, their address, their dtype."""

from __future__ import annotations

import torch
from torch import Tensor


def shape_of(x: Tensor) -> list[int]:
    """(samples, pixels of one sample, channels): the form in which the native code takes a shape."""
    n, c, h, w = x.shape
    return [n, h * w, c]


def address_of(x: Tensor, like: Tensor | None = None) -> int:
    """The address of activations, which must be in channels-last layout, and of the shape and dtype of ``like``."""
    assert x.is_contiguous(memory_format=torch.channels_last), "activations must be channels-last"
    assert like is None or (x.shape == like.shape and x.dtype == like.dtype), "tensors of two shapes or dtypes"
    return x.data_ptr()


def is_bfloat16(x: Tensor) -> bool:
    """Whether the tensor is bfloat16; the other dtype of the kernels is float32."""
    return x.dtype is torch.bfloat16
