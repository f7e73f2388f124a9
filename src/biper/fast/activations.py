"""The shape, address and dtype of activations in the form in which the native kernels take them."""

from __future__ import annotations

import torch
from torch import Tensor


def shape_of(x: Tensor) -> list[int]:
    """The shape of activations (N, C, H, W) as the native code takes it: [N, H W, C]."""
    n, c, h, w = x.shape
    return [n, h * w, c]


def address_of(x: Tensor, like: Tensor | None = None) -> int:
    """The address of activations, which must be in channels-last layout and have the shape and dtype of ``like``."""
    assert x.is_contiguous(memory_format=torch.channels_last), "activations must be channels-last"
    assert like is None or (x.shape == like.shape and x.dtype == like.dtype), "tensors of two shapes or dtypes"
    return x.data_ptr()


def is_bfloat16(x: Tensor) -> bool:
    """Whether the tensor is bfloat16. The only other dtype of the kernels is float32."""
    return x.dtype is torch.bfloat16
