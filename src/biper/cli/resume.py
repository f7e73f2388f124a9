"""The command that continues a run which was stopped."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

_IN_THE_RECIPE = ("overrides", "scale_epochs", "epochs", "learning_rate", "batch_size", "seed")
"""Options that stand in the recipe of the run folder, in which they need not be repeated."""


def resume_command(context: Any, out: Path) -> str:
    """The command that continues the run of a command, with every option that was given to it.

    Args:
        context: the context of the command, as `typer` passes it.
        out: the run folder.
    """
    words = ["biper", "train", str(out / "recipe.toml"), "--out", str(out), "--resume"]
    for parameter in context.command.params:
        name = parameter.name
        given = context.get_parameter_source(name)
        if parameter.param_type_name != "option" or name in (*_IN_THE_RECIPE, "out", "resume"):
            continue
        if given is None or given.name not in ("COMMANDLINE", "ENVIRONMENT"):
            continue
        flag = max(parameter.opts, key=len)
        words += [flag] if parameter.is_flag else [flag, str(context.params[name])]
    return shlex.join(words)
