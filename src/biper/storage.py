"""Tensors and a JSON document in one checksummed safetensors file: what models and checkpoints are made of.

The document stands in the file's metadata under ``"biper"``; its first entry, ``"sha256"``, is the hash of the whole
file with the 64 characters of the hash itself read as zeros, so that any changed byte is noticed. The same tensors
and document always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from biper.errors import CheckpointError
from biper.files import atomic_write

_BLANK = "0" * 64


def _with_hash(blob: bytes, old: str, new: str) -> bytes:
    """The blob with another hash at the start of its document (JSON inside JSON, so its quotes are escaped)."""
    start = '{\\"sha256\\": \\"'
    return blob.replace(f"{start}{old}".encode(), f"{start}{new}".encode(), 1)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write tensors (of any device and layout) and a document, atomically.

    Raises:
        CheckpointError: the file could not be written (a full disk, say); nothing was replaced.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    blob = safetensors.torch.save(plain, {"biper": json.dumps({"sha256": _BLANK, **document})})
    blob = _with_hash(blob, _BLANK, hashlib.sha256(blob).hexdigest())
    try:
        atomic_write(path, blob)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"could not save {path}: {reason}; earlier checkpoints are untouched") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and the document.

    Raises:
        CheckpointError: the file is missing, truncated, changed since it was written, or not one of ours.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    document = _document(path, blob)
    recorded = document.pop("sha256", None)
    if not isinstance(recorded, str) or len(recorded) != len(_BLANK):
        raise CheckpointError(f"{path} is a safetensors file, but not one that biper wrote")
    if hashlib.sha256(_with_hash(blob, recorded, _BLANK)).hexdigest() != recorded:
        raise CheckpointError(f"{path} is corrupt: its content does not match its checksum")
    try:
        return safetensors.torch.load(blob), document
    except SafetensorError as error:
        raise CheckpointError(f"{path} is corrupt: {error}") from error


def _document(path: Path, blob: bytes) -> dict[str, Any]:
    """The document in the header of a safetensors blob, whose first 8 bytes give the length of that header."""
    length = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or length > len(blob) - 8:
        raise CheckpointError(f"{path} is truncated or not a safetensors file ({len(blob):,} bytes)")
    try:
        document = json.loads(json.loads(blob[8 : 8 + length]).get("__metadata__", {}).get("biper", "{}"))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is corrupt: its header is not the JSON that biper writes") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is corrupt: its document is no JSON object")
    return document
