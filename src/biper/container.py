"""Checksummed safetensors files that carry a JSON document: the container of models, checkpoints and packed programs.

The document stands in the file's metadata under ``"biper"``; its first entry, ``"sha256"``, is the hash of the whole
file with the 64 characters of the hash itself read as zeros, so that any changed byte is noticed. The same tensors
and document always give the same bytes. Needs neither torch nor NumPy: the caller brings safetensors' ``save``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

_BLANK = "0" * 64


class ContainerError(Exception):
    """A blob is no container, or not a whole one; the text says why, and the caller says of what."""


def seal(save: Callable[[Any, dict[str, str]], bytes], tensors: Any, document: Mapping[str, Any]) -> bytes:
    """A container as bytes; ``save`` is safetensors' function for the kind of tensors given."""
    blob = save(tensors, {"biper": json.dumps({"sha256": _BLANK, **document}, separators=(",", ":"))})
    return _with_hash(blob, _BLANK, hashlib.sha256(blob).hexdigest())


def open_sealed(blob: bytes, *, verify: bool = True) -> dict[str, Any]:
    """The document of a container, after checking its hash (``verify=False`` leaves that out).

    Raises:
        ContainerError: the blob is truncated, changed since it was written, or not one of ours.
    """
    document = _document(blob)
    recorded = document.pop("sha256", None)
    if not isinstance(recorded, str) or len(recorded) != len(_BLANK):
        raise ContainerError("is a safetensors file, but not one that biper wrote")
    if verify and hashlib.sha256(_with_hash(blob, recorded, _BLANK)).hexdigest() != recorded:
        raise ContainerError("is corrupt: its content does not match its checksum")
    return document


def _with_hash(blob: bytes, old: str, new: str) -> bytes:
    """The blob with another hash: its first entry is at the very start of the file, before any other text."""
    return blob.replace(old.encode(), new.encode(), 1)


def _document(blob: bytes) -> dict[str, Any]:
    """The document in the header of a safetensors blob, whose first 8 bytes give the length of that header."""
    length = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or length > len(blob) - 8:
        raise ContainerError(f"is truncated or not a safetensors file ({len(blob):,} bytes)")
    try:
        document = json.loads(json.loads(blob[8 : 8 + length]).get("__metadata__", {}).get("biper", "{}"))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ContainerError("is corrupt: its header is not the JSON that biper writes") from error
    if not isinstance(document, dict):
        raise ContainerError("is corrupt: its document is no JSON object")
    return document
