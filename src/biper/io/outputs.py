"""Checks of a file that is to be written, made before the work whose result it takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from biper.errors import ExportError
from biper.io.container import container_format


def require_output(out: Path, *, suffix: str, inputs: Iterable[Path] = (), formats: Iterable[str] = ()) -> None:
    """Check that a file may be written: its folder is there, and no file is lost that is not of its kind.

    A file that is there is replaced if its name ends with the suffix of the new file and it is no container of another
    format, such as trained weights; or if it is a container of one of ``formats``.

    Args:
        out: the file to write.
        suffix: how the names of such files end, such as ``".biper"``.
        inputs: the files that the new file is made from.
        formats: the formats of containers that the new file may replace; see `biper.io.container`.

    Raises:
        ExportError: the file may not be written; the text says why.
    """
    if out.is_dir():
        raise ExportError(
            f"out=... expects a file, and {out} is a folder: name a file in it, such as {out / 'model'}{suffix}"
        )
    if not out.parent.is_dir():
        raise ExportError(f"out=... expects a file in a folder that exists, and there is no folder {out.parent}")
    if not out.exists():
        return
    if not out.is_file():
        raise ExportError(f"out=... expects a file, and {out} is a pipe or a device: name another file with out=...")
    if any(path.exists() and out.samefile(path) for path in inputs):
        raise ExportError(f"{out} is what the new file is made from, and would be lost: name another file with out=...")
    found = container_format(out)
    if found is not None and found in formats:
        return
    if found is not None:
        raise ExportError(f"{out} holds a {found!r}, which would be lost: name another file with out=...")
    if out.suffix != suffix:
        raise ExportError(
            f"{out} is there, and is no {suffix} file: name a new file with out=..., or one that ends with {suffix}"
        )
