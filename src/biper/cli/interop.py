"""The command that reads other people's files: import-reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from biper.cli.options import Json
from biper.cli.paths import next_free


def import_reference(
    checkpoint: Annotated[
        Path, typer.Argument(help="model_best.pth.tar of the method's authors, with config.txt in the same folder.")
    ],
    out: Annotated[Path | None, typer.Option(help="The run folder to make. Default: the next free runs/MODEL.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The authors' name of the network, such as resnet20_1w1a, if no file has it.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The data set, such as cifar10 or imagenet, if config.txt does not have it.")
    ] = None,
    frequency: Annotated[float | None, typer.Option(help="The frequency, if config.txt does not have it.")] = None,
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="The stage, if config.txt does not have it.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint of the method's authors into a run folder, to evaluate, inspect and export."""
    from dataclasses import asdict

    from biper import interop
    from biper.cli import tables

    read = interop.read_reference_checkpoint(checkpoint, model=model, dataset=dataset, frequency=frequency, stage=stage)
    out = out or next_free(Path("runs") / read.model)
    info = interop.import_reference(read, out)
    if as_json:
        typer.echo(json.dumps({"stage": read.stage, **asdict(info)}))
        return
    best = "" if read.best_top1 is None else f"; {read.best_top1:.2f}% top-1 by its own account"
    tables.say(
        f"{out}: {info.name} {info.bits} for {info.dataset}, {info.num_classes:,} classes, frequency "
        f"{info.frequency:g}, stage {read.stage}{best}"
    )
    tables.say(f"Next: biper evaluate {out}    biper export {out}")
