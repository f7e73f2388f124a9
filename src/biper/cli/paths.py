"""What a path on the command line stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from biper.cli.loading import say_loading
from biper.errors import ExportError, ModelError

if TYPE_CHECKING:
    from biper.runtime import Model


def model_file(model: str | Path) -> Path:
    """The file of a model that a word of the command line stands for.

    It is the file itself, ``model.safetensors`` of a run folder, or a packed model that comes with biper, by its name.

    Raises:
        ModelError: there is no such file, folder or name, or the folder has no finished model.
    """
    path = Path(model)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            raise ModelError(f"{path} holds no model.safetensors: not a run folder, or a run that is not finished")
        return path / "model.safetensors"
    if path.exists():
        return path
    missing = f"no file or folder {path}"
    if path.suffix or len(path.parts) > 1:
        raise ModelError(f"{missing}: expected a run folder, a model.safetensors or a packed MODEL.biper")
    from biper.runtime.pretrained import pretrained_file

    try:
        return pretrained_file(str(model))
    except ModelError as error:
        raise ModelError(f"{missing}, and {error}") from error


def is_packaged(path: Path) -> bool:
    """Whether a file is one that comes with biper."""
    from biper.runtime.pretrained import FOLDER

    return path.resolve().parent == FOLDER


class Limits(TypedDict, total=False):
    """What a packed file may need, where a flag says it; see `biper.runtime.budget`."""

    max_memory: int
    max_work: int


def limits_of(max_memory: str | None, max_work: int | None) -> Limits:
    """The limits of a packed file that the flags ``--max-memory`` and ``--max-work`` give, by the names of arguments.

    Raises:
        ModelError: the memory is no size.
    """
    limits: Limits = {} if max_work is None else {"max_work": max_work}
    if max_memory is not None:
        from biper.targets.c.budget import parse_bytes

        try:
            limits["max_memory"] = parse_bytes(max_memory)
        except ExportError as error:
            raise ModelError(f"max_memory=...: {error}") from error
    return limits


def load_packed(model: str | Path, *, max_memory: str | None = None, max_work: int | None = None) -> Model:
    """The packed model that a word of the command line stands for, see `model_file`.

    Of a run folder it is ``model.biper``, if there is one. A model that is not packed is packed in memory, which needs
    torch and has no limits.

    Raises:
        ModelError: see `model_file` and `limits_of`.
        BiperError: the model cannot be read or packed, or needs more than the limits allow.
    """
    from biper.runtime import Model

    limits = limits_of(max_memory, max_work)
    path = Path(model)
    packed = path / "model.biper" if path.is_dir() else path
    if packed.suffix == ".biper" and (packed.exists() or not path.is_dir()):
        return Model.load(packed, **limits)
    file = model_file(model)
    if file.suffix == ".biper":
        return Model.load(file, **limits)
    say_loading()
    from biper.targets.deploy import open_program

    return Model(open_program(file).program)


def next_free(path: Path) -> Path:
    """The path if nothing is there, else the first of path-2, path-3 and so on where nothing is."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
