"""Every exception that a user of biper may want to catch, and nothing else.

All of them derive from `BiperError`. Their text is one line that says what was expected, what came
and what to do; the command line prints that line and exits with `exit_code`.
"""


class BiperError(Exception):
    """The root of the family: ``except BiperError`` catches every error that biper raises on purpose."""

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
