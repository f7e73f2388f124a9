"""Containers with anything in them: headers, types and offsets that no library would write, with a valid checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLANK = "0" * 64
NAMES = {
    "float32": "F32",
    "float16": "F16",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
}
"""The names that safetensors has for the types of NumPy."""


@dataclass
class Entry:
    """A tensor as it stands in a file: the name of its type, its shape, and its bytes, which may not fit together."""

    dtype: Any
    shape: Any
    data: bytes

    @classmethod
    def of(cls, array: NDArray[Any]) -> Entry:
        """The entry of an array."""
        return cls(NAMES[str(array.dtype)], list(array.shape), np.ascontiguousarray(array).tobytes())


@dataclass
class Container:
    """The parts of a container, each of which may be changed before it is sealed.

    Attributes:
        document: the JSON document.
        tensors: the tensors by name.
        metadata: further entries of the metadata.
        offsets: where tensors are said to be, for those that are not said to be where they are.
    """

    document: Any
    tensors: dict[str, Entry]
    metadata: dict[str, Any] = field(default_factory=dict)
    offsets: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, blob: bytes) -> Container:
        """Take a sealed file apart."""
        length = int.from_bytes(blob[:8], "little")
        header, data = json.loads(blob[8 : 8 + length]), blob[8 + length :]
        document = json.loads(header.pop("__metadata__")["biper"])
        del document["sha256"]
        entries = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            entries[name] = Entry(entry["dtype"], entry["shape"], data[first:last])
        return cls(document, entries)

    def copy(self) -> Container:
        """A copy whose parts may be changed."""
        return Container(deepcopy(self.document), {name: Entry(e.dtype, deepcopy(e.shape), e.data) for name, e in
                                                   self.tensors.items()})  # fmt: skip

    def header(self, document: str) -> str:
        """The header of the file with a document."""
        header: dict[str, Any] = {"__metadata__": {"biper": document, **self.metadata}}
        place = 0
        for name, entry in self.tensors.items():
            end = place + len(entry.data)
            offsets = self.offsets.get(name, [place, end])
            header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": offsets}
            place = end
        return json.dumps(header)

    def sealed(self) -> bytes:
        """The file, with the checksum that belongs to it."""
        given = {"sha256": BLANK, **self.document} if isinstance(self.document, Mapping) else self.document
        return self.sealed_text(json.dumps(given))

    def sealed_text(self, document: str) -> bytes:
        """The file with a document that is given as text, which need not be JSON."""
        return sealed_header(self.header(document), b"".join(entry.data for entry in self.tensors.values()))


def sealed_header(header: str, data: bytes = b"") -> bytes:
    """A file with this header, in which the first 64 zeros become the checksum."""
    encoded = header.encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    blob = len(encoded).to_bytes(8, "little") + encoded + data
    return blob.replace(BLANK.encode(), hashlib.sha256(blob).hexdigest().encode(), 1)
