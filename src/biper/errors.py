"""Every exception that a user of biper may want to catch, and the two phrases that many of their messages share.

All exceptions derive from `BiperError`. The text of each is one line that says what was expected, what came and what
to do. A message names arguments as Python spells them: ``data_dir=...``, ``resume=True``, ``device="cpu"``. The command
line prints the line with its own flags in their place (`biper.cli.flags`) and exits with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "BiperError",
    "CheckpointError",
    "DataError",
    "ExportError",
    "HubError",
    "LostProcessError",
    "MissingDependencyError",
    "ModelError",
    "ModelFormatError",
    "NonFiniteLossError",
    "RecipeError",
    "TrainingInterrupted",
]


class BiperError(Exception):
    """The base class: ``except BiperError`` catches every error that biper raises on purpose."""

    exit_code = 1


class RecipeError(BiperError):
    """A recipe is missing, malformed, or holds a value that cannot be used."""


class DataError(BiperError):
    """A data set is missing, truncated, corrupt, or not what the recipe asks for."""


class ModelError(BiperError):
    """A model, layer or option was asked for that does not exist or does not fit."""


class CheckpointError(BiperError):
    """A checkpoint could not be written, is corrupt, or belongs to something else."""


class ExportError(BiperError):
    """A model cannot be exported: an operator is not supported, or the packed model does not agree with it."""


class ModelFormatError(BiperError):
    """A packed model is truncated, corrupt, or describes a program that cannot be run."""


class HubError(BiperError):
    """The Hugging Face Hub could not be reached, or refused."""


class MissingDependencyError(BiperError):
    """An optional part of biper was used whose packages are not installed."""


class NonFiniteLossError(BiperError):
    """The loss or its gradient became NaN or infinite; training stopped before the update."""


class TrainingInterrupted(BiperError):
    """Training was asked to stop (Ctrl-C or SIGTERM) and stopped cleanly after saving everything."""

    exit_code = 130


class LostProcessError(BiperError):
    """Another process of the run died, or did not answer in time; this one stopped because of it."""

    exit_code = 75


_LONGEST_WORD = 100


def printable(text: str) -> str:
    """A text in one line, without control characters: they are written as Python writes them, ``\\x1b`` for example.

    Messages quote files that anyone may have made, and a terminal obeys control characters. Letters of all scripts stay
    as they are; half a character (a surrogate) and characters that turn the direction of the text are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelled most like ``word``; None if none is close."""
    import difflib

    if len(word) > _LONGEST_WORD:  # comparing takes time in proportion to the square of the length
        return None
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str], *, listed: bool = True) -> str:
    """The end of an error message about a word that is not among the known ones.

    Args:
        word: what the caller wrote.
        known: every valid word, in the order in which they are to be listed.
        listed: list all valid words too.

    Returns:
        ``"; did you mean 'x'? Known: x, y"``, or ``"; known: x, y"`` where no word is close. Without ``listed`` the
        list is left out: ``"; did you mean 'x'?"`` or ``""``.
    """
    words = list(known)
    near = nearest(word, words)
    guess = f"; did you mean {near!r}?" if near else ""
    if not listed:
        return guess
    return f"{guess} Known: {', '.join(words)}" if guess else f"; known: {', '.join(words)}"


@contextmanager
def optional_packages(extra: str, needed_by: str) -> Iterator[None]:
    """Say how to install a package if an import in the ``with`` block does not find it.

    Args:
        extra: the extra of biper that installs the package, such as ``"train"``.
        needed_by: what needs the package, as the subject of the message, such as ``"biper.train"``.

    Raises:
        MissingDependencyError: a package other than biper itself is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "biper":
            raise
        raise MissingDependencyError(
            f"{needed_by} needs the package {error.name!r}: pip install 'biper[{extra}]'"
        ) from error
