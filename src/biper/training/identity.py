"""The options that belong to the identity of a run: with other ones a resumed run would end with other weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biper.errors import RecipeError
from biper.training.options import RunOptions


def describe_identity(options: RunOptions) -> dict[str, Any]:
    """The options that a run must keep when it is resumed, as JSON values, for ``environment.json`` and checkpoints."""
    start = None if options.start_from is None else str(Path(options.start_from).resolve())
    return {"precision": options.precision, "compiled": options.compiled, "start_from": start}


def check_identity(where: Path, was: Mapping[str, Any], options: RunOptions, *, saved: bool) -> None:
    """Check that a run may be resumed with these options.

    Args:
        where: the run folder or the checkpoint, for the error message.
        was: what `describe_identity` gave when the run began. A key that an older version did not record is not
            compared.
        options: the options to resume with.
        saved: whether the run has a checkpoint. With one the run continues from its weights, and ``start_from`` may be
            left out; without one the run starts again, and needs it.

    Raises:
        RecipeError: an option differs; the text says which one, and what to do.
    """
    now = describe_identity(options)
    precision = was.get("precision", now["precision"])
    if precision != now["precision"]:
        raise RecipeError(
            f'{where} was trained with precision="{precision}", not with precision="{now["precision"]}": resume with '
            "the same precision, or train into another folder with out=..."
        )
    if was.get("compiled", now["compiled"]) != now["compiled"]:
        how, rest = ("without", "leave it out") if now["compiled"] else ("with", "give it again")
        raise RecipeError(f"{where} was trained {how} compiled=True: {rest}, or train into another folder with out=...")
    if "start_from" not in was or was["start_from"] == now["start_from"] or (saved and now["start_from"] is None):
        return
    began = "random weights" if was["start_from"] is None else str(was["start_from"])
    rest = "leave start_from=... out" if saved or was["start_from"] is None else "give the same start_from=... again"
    raise RecipeError(
        f"{where} is a run that began from {began}, not from {now['start_from'] or 'random weights'}: {rest}, or train "
        "into another folder with out=..."
    )
