"""Commands that share models on the Hugging Face Hub: push and pull."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from biper.cli.options import Json, MaxMemory, MaxWork
from biper.cli.paths import limits_of

Repository = Annotated[str, typer.Argument(help="The repository on the Hugging Face Hub, USER/NAME.")]


def push(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    repository: Repository,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a run to the Hugging Face Hub with a card of its measured figures; log in with `hf auth login` before."""
    from biper.cli import tables
    from biper.hub import push_to_hub

    address = push_to_hub(run, repository, private=private)
    if as_json:
        typer.echo(json.dumps({"address": address}))
    else:
        tables.say(f"{address}: biper pull {repository} downloads it")


def pull(
    repository: Repository,
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: NAME.biper in this folder.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit. Default: the newest.")] = None,
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Download a packed model from the Hugging Face Hub; needs no torch."""
    from biper.cli import tables
    from biper.hub import download
    from biper.io.files import atomic_write, read_regular
    from biper.io.outputs import require_output
    from biper.runtime import Model
    from biper.runtime.program import FORMATS

    limits = limits_of(max_memory, max_work)
    out = out or Path(repository.rsplit("/", 1)[-1] + ".biper")
    require_output(out, suffix=".biper", formats=FORMATS)
    content = read_regular(download(repository, revision=revision))
    model = Model.load(content, **limits)
    atomic_write(out, content)
    if as_json:
        typer.echo(json.dumps({"file": str(out), "bytes": len(content)}))
    else:
        tables.say(f"{out}: {model}")
