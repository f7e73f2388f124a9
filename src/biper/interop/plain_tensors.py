"""What a file of somebody else may hold: ordinary tensors on the CPU, whose elements are in the file."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from biper.errors import CheckpointError

DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    }
)  # fmt: skip
"""The types that tensors may have."""


def problem_of(tensor: Tensor) -> str | None:
    """Why a tensor cannot be taken, as a predicate such as "is sparse"; None if it can.

    A tensor may stand for far more elements than it has in memory: one without memory, one that is sparse, and one that
    repeats its elements by strides of 0. Copying such a tensor, or making a network of its shape, takes all the memory.
    """
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is of the layout {str(tensor.layout).removeprefix('torch.')}, expected an ordinary tensor"
    if tensor.device.type == "meta":
        return "is a tensor without values (meta), expected one with values"
    if tensor.dtype not in DTYPES:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in DTYPES))
        return f"is of type {str(tensor.dtype).removeprefix('torch.')}, expected one of {names}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"has the shape {tuple(tensor.shape)}, but fewer values in memory (strides {tensor.stride()})"
    return None


def require_uncompressed(path: Path) -> None:
    """Check a file before `torch.load` reads it: it is a regular file, and no part of it grows when it is unpacked.

    `torch.save` compresses nothing. A compressed part, or two that share their bytes, can be a thousand times as large
    as the file.

    Raises:
        OSError: the file cannot be read.
        CheckpointError: it is no regular file, or parts of it are larger than it is.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CheckpointError(f"{path} is a pipe, a device or a folder, expected a regular file")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    compressed = next((part for part in parts if part.compress_type != zipfile.ZIP_STORED), None)
    if compressed is not None or sum(part.file_size for part in parts) > os.path.getsize(path):
        raise CheckpointError(f"{path} is compressed, as a checkpoint never is: it would take far more memory")
