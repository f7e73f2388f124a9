"""Torch tensors and a JSON document in one checksummed file; see `biper.io.container`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from biper.errors import CheckpointError, printable
from biper.io.container import ContainerError, open_sealed, seal
from biper.io.files import atomic_write, read_regular

DTYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""The types that tensors of a model or a checkpoint may have, by their names in safetensors."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write tensors (on any device, of any layout) and a document to a file, atomically.

    Raises:
        CheckpointError: the file could not be written, for example on a full disk; an older file is unchanged.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        atomic_write(path, seal(safetensors.torch.save, plain, document))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"could not save {path}: {reason}; earlier checkpoints are untouched") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `save_tensors` wrote: the tensors, on the CPU, and the document.

    Raises:
        CheckpointError: the file is missing, truncated, changed since it was written, or not a file of
            biper.
    """
    try:
        blob = read_regular(path)
        document = open_sealed(blob, dtypes=DTYPES)
        return safetensors.torch.load(blob), document
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ContainerError as error:
        raise CheckpointError(f"{path} {error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is corrupt: {printable(str(error))}") from error
