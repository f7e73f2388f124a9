"""Commands that turn a trained model into a small program and run it: export, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biper.cli.options import DataDir, FloatLayers, Format, Json, SavedModel, complete_packed
from biper.cli.paths import model_file
from biper.errors import DataError, ExportError

if TYPE_CHECKING:
    from biper.runtime import Model


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
        from biper.targets.deploy import deploy, open_program, output_file, parse_bytes

        for size in (flash, ram):
            if size is not None:
                parse_bytes(size)
        out = output_file(source, form.value, out or source.with_suffix(""))
        opened = open_program(source, data_dir=data_dir, float_layers=float_layers.value)
        row, text = deploy(opened, form.value, out, integer_only=integer_only, flash=flash, ram=ram)
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
    out: Annotated[
        Path | None,
        typer.Option(help="For a model that gives maps: the picture to write; for several images, the folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Name the most likely classes of images by a packed model, or write their maps as pictures; needs no torch."""
    from biper.cli import tables
    from biper.runtime import Model, load_pretrained
    from biper.runtime.maps import is_map

    is_file = model.endswith(".biper") or Path(model).exists()
    packed = Model.load(model) if is_file else load_pretrained(model)
    gives_maps = is_map(packed.program.output_shape)
    if out is not None and not gives_maps:
        raise DataError(f"out=... is for a model that gives maps; {model} names the classes of images")
    rows: list[dict[str, Any]]
    if gives_maps:
        rows, lines = _predict_maps(packed, images, out)
    else:
        answers = packed.predict(images, top_k)
        rows = [{answer.name: answer.probability for answer in chosen} for chosen in answers]
        lines = ["  ".join(f"{name} {probability:.1%}" for name, probability in row.items()) for row in rows]
    if as_json:
        typer.echo(json.dumps({str(image): row for image, row in zip(images, rows, strict=True)}))
        return
    for image, line in zip(images, lines, strict=True):
        tables.say(f"{image}: {line}")


def _predict_maps(model: Model, images: list[Path], out: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the map of each image as a picture if ``out`` is given; returns for each a row for JSON, and a line."""
    files = [None if out is None else out if len(images) == 1 else out / f"{image.stem}.png" for image in images]
    if out is not None and len(set(files)) < len(files):
        raise DataError("two of the images have the same name, which their maps in out=... would have too")
    rows, lines = [], []
    for image, file in zip(images, files, strict=True):
        (found,) = model.predict_maps([image])
        if file is not None:
            found.save(file)
        _, height, width = found.values.shape
        shares = found.shares
        rows.append({"map": None if file is None else str(file), "height": height, "width": width, "shares": shares})
        text = "  ".join(f"{name} {share:.1%}" for name, share in shares.items() if share >= 0.0005) or "nothing found"
        lines.append(f"{width} x {height} map, {text}" + ("" if file is None else f": {file}"))
    return rows, lines
