"""Atomic writing: a file exists completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path


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
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
