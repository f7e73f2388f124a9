"""Files: reading one at one moment, and atomic writing, after which a file exists completely or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
"""The names of temporary files: that of the file to write, and the number of the process."""


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file that a reader sees completely or not at all, even after a killed process or a loss of power.

    The content is written to a temporary file in the same folder and flushed to the disk; the temporary file is then
    renamed to ``path``, and the folder is flushed.

    Raises:
        OSError: the disk is full, or the folder cannot be written; ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, so that they are there even after a loss of power.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        with suppress(PermissionError):  # a folder that one may write to, but not read
            _flush_folder(each.parent)


def _flush_folder(path: Path) -> None:
    """Write the names in a folder to the disk; on Windows, which cannot do that, nothing happens."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, or what a link to one leads to, opened for reading bytes.

    A pipe or a device is refused before anything is read: opening or reading it may wait for ever, or never end.

    Raises:
        OSError: it cannot be opened, or is no regular file; ``strerror`` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe, a device or a folder, expected a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_regular(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """The content of a regular file, or of a link to one; see `open_regular`.

    Args:
        path: the file.
        limit: the most bytes that it may have; None for any number.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; ``strerror`` says which.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, expected at most {limit:,}", str(path))
        return file.read()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of `atomic_write` in a folder whose processes have ended. Subfolders are not read."""
    if not folder.is_dir():
        return
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _is_running(int(match[1])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether another process with this number runs; on Windows, where asking would end it, always true."""
    if process == os.getpid() or os.name != "posix":
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
