"""The flag of each argument of the library, so that an error of the library reads as one of the command line."""

from __future__ import annotations

import re

FLAGS = {
    "activation": "--activation",
    "batch": "--batch",
    "budget": "--budget",
    "calibrate": "--calibrate",
    "compiled": "--compile",
    "cuda_graphs": "--cuda-graphs",
    "data_dir": "--data-dir",
    "dataset": "--dataset",
    "device": "--device",
    "devices": "--devices",
    "factor": "--scale-epochs",
    "factors": "--learning-rates",
    "flash": "--flash",
    "float_layers": "--float-layers",
    "form": "--format",
    "frequency": "--frequency",
    "images": "--images",
    "inputs": "--inputs",
    "instruction_set": "--isa",
    "integer_only": "--integer-only",
    "machines": "--nodes",
    "max_memory": "--max-memory",
    "max_work": "--max-work",
    "methods": "--methods",
    "model": "--model",
    "out": "--out",
    "overrides": "--set",
    "peers": "--against",
    "precision": "--precision",
    "ram": "--ram",
    "rendezvous": "--rendezvous",
    "resume": "--resume",
    "scale_epochs": "--scale-epochs",
    "seconds": "--seconds",
    "seed": "--seed",
    "seeds": "--seeds",
    "split": "--split",
    "stage": "--stage",
    "value_bits": "--value-bits",
    "start_from": "--start-from",
    "step_timeout": "--step-timeout",
    "threads": "--threads",
    "variants": "--variant",
    "weights": "--weights",
    "workers": "--workers",
}
"""Names of arguments as the messages of library errors have them, and the flags that set these arguments."""

_QUOTES = "\"'"
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_ARGUMENT = re.compile(
    rf"""(?<![\w.'"/=-])(?P<name>{"|".join(FLAGS)})="""
    rf"""(?:(?P<open>\.\.\.)|(?P<switch>True)\b|(?P<list>\[{_QUOTED}\])|(?P<text>{_QUOTED})|(?P<number>\d[\w.]*\b))"""
)


def with_flags(message: str) -> str:
    """A message of the library with the flag in place of each argument that it names.

    An argument is ``name=`` followed by ``...`` (any value), ``True``, a quoted text, a list of one quoted text, or a
    number. ``data_dir=...`` becomes ``--data-dir``, ``resume=True`` ``--resume``, ``device="cpu"`` ``--device cpu``,
    ``workers=0`` ``--workers 0``, and ``overrides=["seed=1"]`` ``--set seed=1``. Recipe keys (``stage1.epochs=10``) and
    names without a flag stay as they are.
    """
    return _ARGUMENT.sub(_flag, message)


def _flag(argument: re.Match[str]) -> str:
    flag = FLAGS[argument["name"]]
    value = argument["list"] or argument["text"] or argument["number"]
    return f"{flag} {value.strip('[]').strip(_QUOTES)}" if value else flag
