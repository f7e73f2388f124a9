"""What a path on the command line stands for."""

from __future__ import annotations

from pathlib import Path

from biper.errors import ModelError


def model_file(path: Path) -> Path:
    """The model file that a path stands for: the file itself, or ``model.safetensors`` of a run folder.

    Raises:
        ModelError: there is no such file or folder, or the folder has no finished model.
    """
    if not path.exists():
        raise ModelError(f"no file or folder {path}: expected a run folder or a model.safetensors")
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").exists():
        raise ModelError(f"{path} holds no model.safetensors: not a run folder, or a run that is not finished")
    return path / "model.safetensors"


def next_free(path: Path) -> Path:
    """The path if nothing is there, else the first of path-2, path-3 and so on where nothing is."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
