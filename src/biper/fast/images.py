"""Random crops, mirroring and normalization of whole batches of images; calls ``native/training/images.cc``."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.fast.availability import unavailable_reason


def fits_images(images: Tensor) -> bool:
    """Whether `crop_and_mirror` and `normalize` can work on images: (N, H, W, C) uint8, contiguous, on the CPU."""
    are_images = images.dtype is torch.uint8 and images.dim() == 4 and images.is_contiguous()
    return are_images and images.device.type == "cpu" and unavailable_reason(torch.float32) is None


def crop_and_mirror(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """Pad each image with black pixels, cut a crop of the original size out of it, and mirror some crops.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        rows, columns: (N,) int64, where the crop of each image begins in the padded image, 0 to ``2 * padding``.
        mirrored: (N,) bool, which crops are mirrored left to right.
        padding: the number of black pixels on each side.

    Returns:
        (N, H, W, C) uint8.
    """
    from biper import _native

    out = torch.empty_like(images)
    choices = [choice.contiguous() for choice in (rows, columns, mirrored)]
    addresses = images.data_ptr(), *(choice.data_ptr() for choice in choices)
    _native.crop_and_mirror(list(images.shape), *addresses, padding, out.data_ptr(), torch.get_num_threads())
    return out


def normalize(images: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Compute ``shift + images * factor``.

    Args:
        images: (N, H, W, C) uint8, contiguous.
        factor, shift: (C,) float32, numbers for each channel.

    Returns:
        (N, H, W, C) float32.
    """
    from biper import _native

    out = torch.empty(images.shape, dtype=torch.float32)  # whatever the default dtype is
    addresses = images.data_ptr(), factor.data_ptr(), shift.data_ptr(), out.data_ptr()
    _native.normalize(list(images.shape), *addresses, torch.get_num_threads())
    return out
