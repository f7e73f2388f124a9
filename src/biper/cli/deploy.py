"""Commands that turn a trained model into a small program and run it: export, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biper.cli.loading import say_loading
from biper.cli.options import AnyModel, DataDir, FloatLayers, Format, InputKind, Json, MaxMemory, MaxWork, ValueBits
from biper.cli.paths import is_packaged, limits_of, load_packed, model_file
from biper.errors import DataError, ExportError, printable

if TYPE_CHECKING:
    from biper.runtime.maps import PredictedMap


def export(
    model: AnyModel,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: beside the model, with its name.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="A packed file (biper), C source, a web page, a graph, or a library.")
    ] = Format.biper,
    data_dir: DataDir = None,
    float_layers: Annotated[
        FloatLayers, typer.Option(help="The number format of the layers whose weights are real.")
    ] = FloatLayers.float32,
    integer_only: Annotated[bool, typer.Option("--integer-only", help="C: use no floating point at all.")] = False,
    flash: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the flash of the device, such as 128k.")] = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the RAM of the device, such as 64k.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="LIMITS",
            help="C: what the device has, such as flash=64k,ram=32k,instructions=20M. Says what fits; writes nothing "
            "if something does not.",
        ),
    ] = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICTURES",
            help="C in integers: pictures, a folder of them or a .npy array, on which the magnitudes of values are "
            "measured. Repeatable. Default: those of the data set of a saved model; none of a packed file.",
        ),
    ] = None,
    value_bits: Annotated[
        ValueBits,
        typer.Option(
            help="C in integers: the bits of values between layers. 32 bits take more RAM, and classify as the runtime."
        ),
    ] = ValueBits.short,
    input_kind: Annotated[
        InputKind | None,
        typer.Option(
            "--input",
            help="C: whether the function takes pixels, which it normalizes, or normalized numbers. "
            "Default: pixels of pictures, numbers of signals.",
        ),
    ] = None,
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Pack a trained model into one small file, after comparing both on real images; or write another format."""
    from dataclasses import asdict, replace

    from biper.cli import tables

    source = model_file(model)
    if source.suffix != ".biper":
        say_loading()
    if is_packaged(source) and out is None and form is not Format.biper:
        out = Path(source.stem)  # beside the model would be inside the package
    wide = value_bits is not ValueBits.short
    of_c = integer_only or flash or ram or budget is not None or input_kind or calibrate or wide
    if form not in (Format.c, Format.arduino, Format.esp_idf) and of_c:
        raise ExportError(
            "--integer-only, --flash, --ram, --budget, --calibrate, --value-bits and --input are for --format c, "
            "arduino and esp-idf"
        )
    if form is Format.biper and source.suffix == ".biper":
        raise ExportError(f"{source} is packed already: name another format with --format")
    if form is Format.biper:
        from biper.targets.packed.saved import export_saved

        out = out or source.with_suffix(".biper")
        report, images = export_saved(source, out, data_dir=data_dir, float_layers=float_layers.value)
        row, text = {"file": str(out), **asdict(report)}, f"{out}: {report} (on {images})"
    else:
        from biper.targets.c.budget import BudgetError, parse_budget
        from biper.targets.deploy import deploy, open_program, output_file, require_integers

        require_integers(int(value_bits.value), integer_only)  # before the model is read
        parse_budget(budget, flash=flash, ram=ram, integer_only=integer_only)
        out = output_file(source, form.value, out or source.with_suffix(""))
        limits = limits_of(max_memory, max_work)
        opened = open_program(source, data_dir=data_dir, float_layers=float_layers.value, **limits)
        if calibrate:
            from biper.cli.pictures import calibration_images
            from biper.runtime import Model

            opened = replace(opened, images=calibration_images(Model(opened.program), calibrate))
        try:
            row, text = deploy(
                opened,
                form.value,
                out,
                integer_only=integer_only,
                flash=flash,
                ram=ram,
                budget=budget,
                numbers=None if input_kind is None else input_kind is InputKind.numbers,
                value_bits=int(value_bits.value),
            )
        except BudgetError as error:
            if budget is not None and not as_json:
                tables.say(error.table)
            raise
    if as_json:
        typer.echo(json.dumps(row))
    else:
        tables.say(text)


def predict(
    model: AnyModel,
    images: Annotated[
        list[str], typer.Argument(help="Pictures of any format and size: files, folders, patterns, .npy arrays, or -.")
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="For a model that gives maps: the picture to write; for several images, the folder."),
    ] = None,
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Name the most likely classes of pictures, or write their maps as pictures. A packed file needs no torch."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.cli.pictures import MapFiles, predict_all
    from biper.runtime.maps import PredictedMap, is_map

    packed = load_packed(model, max_memory=max_memory, max_work=max_work)
    if out is not None and not is_map(packed.program.output_shape):
        raise DataError(f"out=... is for a model that gives maps; {model} names the classes of images")
    files = MapFiles(out, images)
    read, unreadable = 0, 0
    for answer in predict_all(packed, images, top_k):
        if answer.error:
            unreadable += 1
            said = answer.error if answer.name in answer.error else f"{answer.name}: {answer.error}"
            typer.echo(f"warning: {printable(' '.join(said.split()))}", err=True)
            continue
        if isinstance(answer.found, PredictedMap):
            row, line = _map_row(answer.found, files.write(answer))
        else:
            row = {"classes": [asdict(chosen) for chosen in answer.found]}
            line = "  ".join(f"{chosen.name} {chosen.probability:.1%}" for chosen in answer.found)
        if as_json:
            typer.echo(("," if read else "[") + json.dumps({"image": answer.name, **row}))
        else:
            tables.say(f"{answer.name}: {line}")
        read += 1
    if as_json:
        typer.echo("]" if read else "[]")
    if unreadable:
        raise DataError(f"{unreadable:,} of {read + unreadable:,} images cannot be read")


def _map_row(found: PredictedMap, file: Path | None) -> tuple[dict[str, Any], str]:
    """What is said of a map: the data of its row for JSON, and a line for people."""
    _, height, width = found.values.shape
    row = {"map": None if file is None else str(file), "height": height, "width": width, "shares": found.shares}
    parts = [f"{name} {share:.1%}" for name, share in found.shares.items() if share >= 0.0005]
    line = f"{width} x {height} map, {'  '.join(parts) or 'nothing found'}"
    return row, line + ("" if file is None else f": {file}")
