"""Checksummed safetensors files that carry a JSON document: the container of models, checkpoints and packed programs.

The document is in the metadata of the file under ``"biper"``; its first entry, ``"sha256"``, is the SHA-256 of the
whole file with zeros in place of its own 64 characters, so that any changed byte is detected. The same tensors
and document always give the same bytes. The module needs neither torch nor NumPy: the caller passes the ``save`` of
safetensors for its kind of tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from mmap import mmap
from pathlib import Path
from typing import Any

from biper.errors import printable
from biper.io.files import open_regular

_BLANK = "0" * 64
_HASH = re.compile("[0-9a-f]{64}")
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
"""The longest header in bytes that safetensors accepts."""


class ContainerError(Exception):
    """A blob is no container, or is damaged; the text is a predicate, such as "is corrupt", without its subject."""


def seal(save: Callable[[Any, dict[str, str]], bytes], tensors: Any, document: Mapping[str, Any]) -> bytes:
    """Make a container.

    Args:
        save: the function of safetensors that saves this kind of tensors.
        tensors: what ``save`` takes, by name.
        document: a JSON object.

    Returns:
        The content of the file.
    """
    blob = save(tensors, {"biper": json.dumps({"sha256": _BLANK, **document}, separators=(",", ":"))})
    return blob.replace(_BLANK.encode(), hashlib.sha256(blob).hexdigest().encode(), 1)


def open_sealed(blob: bytes | mmap, *, dtypes: Collection[str], verify: bool = True) -> dict[str, Any]:
    """The document of a container, after checking its hash and the types of its tensors.

    Args:
        blob: bytes, or a mapped file.
        dtypes: the types that tensors may have, by their names in safetensors. Libraries differ in how they fail with
            others.
        verify: compare the hash.

    Raises:
        ContainerError: the blob is truncated, changed since it was written, or not one of ours, or has a tensor of
            another type.
    """
    with memoryview(blob) as view:
        header = _header(view)
        document = _document(header, dtypes)
        recorded = document.pop("sha256", None)
        if not isinstance(recorded, str) or not _HASH.fullmatch(recorded):
            raise ContainerError("is a safetensors file, but not one that biper wrote")
        if verify and _blanked_hash(view, header.find(recorded.encode())) != recorded:
            raise ContainerError("is corrupt: its content does not match its checksum")
    return document


def container_format(path: Path) -> str | None:
    """The format that the document of a container names; None for what is no container, is damaged, or is no file.

    Only the header of the file is read, and no checksum is compared.
    """
    try:
        with open_regular(path) as file:
            start = file.read(_LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            if length > min(os.fstat(file.fileno()).st_size, _LONGEST_HEADER):
                return None
            found = _document(_header(memoryview(start + file.read(length)))).get("format")
    except (OSError, ContainerError):
        return None
    return found if isinstance(found, str) else None


def _blanked_hash(view: memoryview, position: int) -> str:
    """The hash of the file with zeros in place of the recorded hash, which is at ``position`` of the header."""
    start = _LENGTH_BYTES + position
    digest = hashlib.sha256(view[:start])
    digest.update(_BLANK.encode())
    digest.update(view[start + len(_BLANK) :])
    return digest.hexdigest()


def _header(view: memoryview) -> bytes:
    """The header of a safetensors file, whose first 8 bytes give its length."""
    if len(view) == 0:
        raise ContainerError("is empty")
    length = int.from_bytes(view[:_LENGTH_BYTES], "little")
    if len(view) < _LENGTH_BYTES or length > len(view) - _LENGTH_BYTES:
        raise ContainerError(f"is truncated or not a safetensors file ({len(view):,} bytes)")
    return bytes(view[_LENGTH_BYTES : _LENGTH_BYTES + length])


def _document(header: bytes, dtypes: Collection[str] | None = None) -> dict[str, Any]:
    """The document in a header, whose tensors must have one of the types, unless these are None."""
    try:
        entries = json.loads(header)
        document = json.loads(entries.pop("__metadata__", {}).get("biper", "{}"))
        found = {name: entry["dtype"] for name, entry in entries.items()}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ContainerError("is corrupt: its header is not the JSON that biper writes") from error
    if not isinstance(document, dict):
        raise ContainerError("is corrupt: its document is no JSON object")
    for name, dtype in found.items():
        if dtypes is not None and (not isinstance(dtype, str) or dtype not in dtypes):
            raise ContainerError(
                f"has a tensor {printable(name[:100])} of type {printable(str(dtype)[:100])}, expected "
                f"{', '.join(sorted(dtypes))}"
            )
    return document
