"""The headers of a tar file, read one by one: no name, number or attribute in them is trusted, and none is kept.

Names may come from the header itself, from a GNU long name, or from the ``path`` of a pax header, each of up to
`MAX_NAME` bytes. Global pax headers are passed over. Members that are not stored as they are, such as sparse ones, are
not given.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_NAME = 4_096
"""The longest name of a member, in bytes."""

MAX_EXTENSION = 1 << 16
"""The largest extended header, in bytes."""

_BLOCK = tarfile.BLOCKSIZE
_EXTENDED_AT, _MORE_EXTENDED_AT = 482, 504  # whether blocks of sparse parts follow a header, and such a block


_WITH_CONTENT = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE)


class Member(NamedTuple):
    """A regular file in a tar file."""

    name: str
    offset: int
    """The place of its content in the tar file, in bytes."""
    size: int


def members(file: BinaryIO) -> Iterator[Member]:
    """The regular files of a tar file, in order. Their content may lie beyond the end of the file.

    Raises:
        tarfile.ReadError: a header is damaged, or the file ends without the mark of an archive's end.
    """
    name: str | None = None
    size: int | None = None
    is_sparse = False
    place = 0
    while True:
        file.seek(place)
        block = file.read(_BLOCK)
        if block == bytes(_BLOCK):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            short = len(block) < _BLOCK
            problem = "it does not end with the mark of an archive's end" if short else "a header of it is damaged"
            raise tarfile.ReadError(problem) from None
        if header.size < 0:
            raise tarfile.ReadError("a header of it has a negative size")
        place += _BLOCK
        kind = header.type
        if kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            if header.size > MAX_EXTENSION:
                raise tarfile.ReadError(f"an extended header of it has {header.size:,} bytes")
            content = file.read(header.size)
            if kind == tarfile.GNUTYPE_LONGNAME:
                name = content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            else:
                name, size, is_sparse = _read_pax(content, name, size)
            place += _rounded(header.size)
            continue
        if kind == tarfile.GNUTYPE_SPARSE:
            place = _after_sparse_blocks(file, place, bool(block[_EXTENDED_AT]))
        length = header.size if size is None else size
        if header.isreg() and kind != tarfile.GNUTYPE_SPARSE and not is_sparse:
            found = header.name if name is None else name
            if len(found) > MAX_NAME:
                raise tarfile.ReadError(f"a name in it has {len(found):,} characters")
            yield Member(found, place, length)
        if header.isreg() or kind not in tarfile.SUPPORTED_TYPES or kind in _WITH_CONTENT:
            place += _rounded(length)
        if kind != tarfile.GNUTYPE_LONGLINK and kind != tarfile.XGLTYPE:
            name, size, is_sparse = None, None, False


def _rounded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _after_sparse_blocks(file: BinaryIO, place: int, extended: bool) -> int:
    """The place after the blocks that list the parts of a sparse member."""
    while extended:
        file.seek(place)
        block = file.read(_BLOCK)
        if len(block) < _BLOCK:
            raise tarfile.ReadError("it ends within the header of a sparse member")
        extended, place = bool(block[_MORE_EXTENDED_AT]), place + _BLOCK
    return place


def _read_pax(content: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None, bool]:
    """The name and the size that a pax header gives, else those from before; and whether the member is sparse.

    Raises:
        tarfile.ReadError: it is malformed.
    """
    is_sparse = False
    while content.rstrip(b"\0"):
        digits, _, _ = content.partition(b" ")
        if not digits.isdigit() or len(digits) > 6 or not len(digits) + 3 <= int(digits) <= len(content):
            raise tarfile.ReadError("an extended header of it is malformed")
        record, content = content[len(digits) + 1 : int(digits)], content[int(digits) :]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise tarfile.ReadError("an extended header of it has a size that is no number")
            size = int(value)
        is_sparse |= key.startswith(b"GNU.sparse.")
    return name, size, is_sparse
