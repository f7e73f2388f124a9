"""A run folder as one small file, for a machine from which only a few files can be brought back."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

CHECKPOINTS = "checkpoints"
LEFT_OUT = ("tensorboard", ".lock")
"""Resuming makes them anew; ``metrics.jsonl`` has all numbers of TensorBoard."""


def save_run(folder: Path, archive: Path) -> bool:
    """Write the files of a run, also while it trains, as a compressed tar archive.

    The newest checkpoint is read first, so that the other files are those of its epoch or of a later one. Of the older
    checkpoints none is kept. The archive is there whole or not at all.

    Returns:
        Whether there was a checkpoint. Without one nothing is written.
    """
    newest = _newest(folder / CHECKPOINTS)
    if newest is None:
        return False
    content = {f"{CHECKPOINTS}/{newest[0]}": newest[1]}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in (*LEFT_OUT, CHECKPOINTS) or path.name.endswith(".tmp") or not path.is_file():
            continue
        try:
            content[name] = path.read_bytes()
        except FileNotFoundError:  # a file that the run has replaced or removed since
            continue
    written = archive.with_name(f"{archive.name}.new")
    with tarfile.open(written, "w:gz", compresslevel=6) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    os.replace(written, archive)
    return True


def _newest(folder: Path) -> tuple[str, bytes] | None:
    """Name and content of the newest checkpoint. The run deletes old ones at any time, so that this may take tries."""
    for _ in range(10):
        names = sorted(path.name for path in folder.glob("stage*.safetensors"))
        if not names:
            return None
        try:
            return names[-1], (folder / names[-1]).read_bytes()
        except FileNotFoundError:
            continue
    return None


def restore_run(archive: Path, folder: Path) -> None:
    """Make a run folder from an archive of `save_run`.

    Raises:
        OSError, tarfile.TarError: the archive cannot be read, or would write outside the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
