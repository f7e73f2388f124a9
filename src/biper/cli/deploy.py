"""Commands that turn a trained model into a small program and run it: export, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from biper.cli.options import DataDir, FloatLayers, Format, Json, SavedModel, complete_packed
from biper.cli.paths import model_file
from biper.errors import ExportError


def export(
    model: SavedModel,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: beside the model, with its name.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="A packed file (biper), C source, a web page, or a graph.")
    ] = Format.biper,
    data_dir: DataDir = None,
    float_layers: Annotated[
        FloatLayers, typer.Option(help="The number format of the layers whose weights are real.")
    ] = FloatLayers.float32,
    integer_only: Annotated[bool, typer.Option("--integer-only", help="C: use no floating point at all.")] = False,
    flash: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the flash of the device, such as 128k.")] = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the RAM of the device, such as 64k.")] = None,
    as_json: Json = False,
) -> None:
    """Pack a trained model into one small file, after comparing both on real images; or write another format."""
    from dataclasses import asdict

    from biper.cli import tables

    source = model_file(model)
    if form is not Format.c and (integer_only or flash or ram):
        raise ExportError("--integer-only, --flash and --ram are for --format c")
    if form is Format.biper and source.suffix == ".biper":
        raise ExportError(f"{source} is packed already: name another format with --format")
    if form is Format.biper:
        from biper.targets.packed.saved import export_saved

        out = out or source.with_suffix(".biper")
        report, images = export_saved(source, out, data_dir=data_dir, float_layers=float_layers.value)
        row, text = {"file": str(out), **asdict(report)}, f"{out}: {report} (on {images})"
    else:
        from biper.targets.deploy import deploy, open_program

        opened = open_program(source, data_dir=data_dir, float_layers=float_layers.value)
        row, text = deploy(
            opened, form.value, out or source.with_suffix(""), integer_only=integer_only, flash=flash, ram=ram
        )
    if as_json:
        typer.echo(json.dumps(row))
    else:
        tables.say(text)


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A packed model, MODEL.biper; or the name of one that comes with biper, cifar10-resnet20.",
            autocompletion=complete_packed,
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files of any format and size.")],
    top_k: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    as_json: Json = False,
) -> None:
    """Name the most likely classes of images by a packed model; needs no torch."""
    from biper.cli import tables
    from biper.runtime import Model, load_pretrained

    is_file = model.endswith(".biper") or Path(model).exists()
    answers = (Model.load(model) if is_file else load_pretrained(model)).predict(images, top_k)
    if as_json:
        rows = [{answer.name: answer.probability for answer in chosen} for chosen in answers]
        typer.echo(json.dumps({str(image): row for image, row in zip(images, rows, strict=True)}))
        return
    for image, chosen in zip(images, answers, strict=True):
        tables.say(f"{image}: " + "  ".join(f"{answer.name} {answer.probability:.1%}" for answer in chosen))
