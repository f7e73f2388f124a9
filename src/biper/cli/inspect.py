"""Commands that look at a network without changing it: evaluate, models, inspect, analyze, bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biper.cli.options import (
    AnyModel,
    DataDir,
    Device,
    DeviceOption,
    Json,
    MaxMemory,
    MaxWork,
    Threads,
    Workers,
    complete_packed,
)
from biper.cli.paths import load_packed, model_file
from biper.errors import ModelError

if TYPE_CHECKING:
    from biper.runtime.program import Program


def evaluate(
    model: AnyModel,
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(help="The images to use: test, train or held-out.")] = "test",
    data: Annotated[
        str | None,
        typer.Option(help="The name of the data set; needed for a packed model of yours."),
    ] = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    workers: Workers = None,
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Measure top-1 accuracy and loss of a trained model on a split of its data set."""
    from dataclasses import replace

    from biper.cli import tables
    from biper.data import load_dataset
    from biper.data.dataset import require_split
    from biper.measure.evaluation import evaluate as evaluate_model
    from biper.measure.evaluation import evaluate_packed
    from biper.models.saved import load_model
    from biper.runtime.pretrained import FOLDER, pretrained_card
    from biper.training.devices import choose_device, set_threads

    require_split(split)
    set_threads(threads)
    file = Path(model) if model.endswith(".biper") else model_file(model)
    if file.suffix == ".biper":
        if data is None and file.parent == FOLDER:
            data = pretrained_card(file.stem).data
        if data is None:
            raise ModelError(f"{model} is a packed model: name its data set with --data, such as --data cifar10")
        packed = load_packed(file, max_memory=max_memory, max_work=max_work)
        size = packed.program.input_shape[-1]
        dataset = load_dataset(data, data_dir, image_size=size, classes=packed.classes, workers=workers)
        name, scores = model, evaluate_packed(packed, dataset.split(split))
    else:
        loaded, info = load_model(file)
        target = choose_device(device)
        data = data or info.dataset
        dataset = replace(info, dataset=data).load_dataset(data_dir, workers=workers)
        images = dataset.split(split).to(target)
        name, scores = info.name, evaluate_model(loaded.to(target), images, info.mean, info.std)
    if as_json:
        row = {"split": split, "accuracy": scores.accuracy, "loss": scores.loss, "images": scores.images}
        typer.echo(json.dumps(row))
    else:
        tables.say(
            f"{name} on {split}: accuracy {scores.accuracy:.2%} ({scores.correct:,} of {scores.images:,}), "
            f"loss {scores.loss:.4f}"
        )


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="The model whose card to print. Default: a table of all.", autocompletion=complete_packed),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the packed models that come with biper, or print the card of one: how it was trained and its accuracy."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.runtime.pretrained import pretrained_card, pretrained_file, pretrained_names

    cards = {each: pretrained_card(each) for each in ([name] if name is not None else pretrained_names())}
    sizes = {each: pretrained_file(each).stat().st_size for each in cards}
    if as_json:
        rows = {each: asdict(card) | {"accuracy": card.accuracy, "bytes": sizes[each]} for each, card in cards.items()}
        typer.echo(json.dumps(rows if name is None else rows[name]))
    elif name is None:
        tables.console.print(tables.model_table(cards, sizes))
    else:
        tables.console.print(tables.card_table(cards[name], sizes[name]))


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            help="The name of a network or of a model that comes with biper, a run folder, a model.safetensors, or a "
            "packed MODEL.biper."
        ),
    ],
    dataset: Annotated[str, typer.Option(help="For the name of a network: the data set that it is for.")] = "cifar10",
    bits: Annotated[str, typer.Option(help="For the name of a network: W1A1, W1A32 or W32A32.")] = "W1A1",
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, bits, multiply-accumulates, float and packed size."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.runtime.pretrained import pretrained_file, pretrained_names

    if target.endswith(".biper") or (target in pretrained_names() and not Path(target).exists()):
        path = Path(target) if target.endswith(".biper") else pretrained_file(target)
        packed = load_packed(path, max_memory=max_memory, max_work=max_work)
        _show_packed(packed.program, path.stat().st_size, as_json)
        return
    from biper.data.specs import dataset_spec
    from biper.measure.size import model_sizes, summarize
    from biper.models import create_model
    from biper.models.saved import load_model
    from biper.report.run_tables import network_table

    if Path(target).exists():
        model, info = load_model(model_file(Path(target)))
        shape = info.shape
    elif "/" in target or target.endswith(".safetensors"):
        raise ModelError(f"no file or folder {target}: inspect expects a run folder, a model file or a network's name")
    else:
        model, shape = create_model(target, dataset=dataset, bits=bits), dataset_spec(dataset).shape()
    layers = summarize(model, shape)
    sizes = model_sizes(model)
    if as_json:
        typer.echo(json.dumps({"layers": [asdict(layer) for layer in layers], **sizes.to_json()}))
    else:
        tables.console.print(tables.drawn(network_table(layers, sizes)))


def _show_packed(program: Program, size: int, as_json: bool) -> None:
    """Show the operations of a packed model, whose file has ``size`` bytes; needs no torch."""
    from biper.cli import tables

    if as_json:
        rows = [
            {"source": op.source, "operation": op.operation, "shape": op.shape, "bytes": op.nbytes}
            for op in program.operations
        ]
        shapes, prepared = program.shapes, program.preprocessing
        row: dict[str, Any] = {
            "input": program.input_shape,
            "mean": program.mean,
            "std": program.std,
            "preprocessing": None if prepared is None else prepared.to_json(),
            "inputs": dict(program.inputs),
            "outputs": {name: shapes[value] for name, value in program.outputs.items()},
            "classes": program.classes,
            "bytes": size,
            "operations": rows,
        }
        typer.echo(json.dumps(row))
    else:
        tables.console.print(tables.program_table(program, size))


def analyze(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not.")],
    compare: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A second run folder to compare with the first.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write. Default: report.html in the run folder.")] = None,
    data_dir: DataDir = None,
    images: Annotated[int | None, typer.Option(min=2, help="Test images to use. Default: all.")] = None,
    threads: Threads = None,
    full: Annotated[bool, typer.Option("--full", help="Print the tables of all layers too.")] = False,
    as_json: Json = False,
) -> None:
    """Analyze the bits of a trained network: a summary here; tables, plots and pictures in one page, report.html."""
    from biper.cli import tables
    from biper.io.outputs import require_output
    from biper.report.analysis import analyze_run, require_run
    from biper.report.run_page import write_report
    from biper.report.run_tables import run_tables
    from biper.report.side_by_side import layers_side_by_side, summary_table
    from biper.training.devices import set_threads

    out = out or run / "report.html"
    paths = [path for path in (run, compare) if path is not None]
    for path in paths:
        require_run(path)
    require_output(out, suffix=".html")
    set_threads(threads)
    runs = [analyze_run(path, data_dir=data_dir, images=images) for path in paths]
    write_report(runs, out)
    if as_json:
        typer.echo(json.dumps({"report": str(out), "runs": [each.to_json() for each in runs]}))
        return
    for each in runs:
        for note in each.notes:
            tables.say(f"{each.path}: {note}")
    shown = [summary_table(runs)]
    if full:
        shown += [layers_side_by_side(runs)] if compare else run_tables(runs[0])
    for table in shown:
        if table.rows:
            tables.console.print(tables.drawn(table, title=table.name))
    tables.say(f"Everything, with plots and pictures: {out}" + ("" if full else "; the tables of all layers: --full"))


def bench(
    model: AnyModel,
    batch: Annotated[int, typer.Option(min=1, help="Images of one call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that share a call.")] = 1,
    isa: Annotated[
        str | None,
        typer.Option(help="Instruction set: scalar, avx2, avx512, neon or dotprod. Default: the fastest of this CPU."),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the time of each operation.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="PEERS", help="Other engines to time: torch,onnxruntime,openvino or some.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Approximate time to measure; with --against, for each engine.")
    ] = 2.0,
    max_memory: MaxMemory = None,
    max_work: MaxWork = None,
    as_json: Json = False,
) -> None:
    """Measure how fast a packed model runs here, and what share of the measured popcount peak it reaches."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.peers.engines import compare_engines
    from biper.report.run_tables import operation_table
    from biper.runtime.bench import bench as measure

    program = load_packed(model, max_memory=max_memory, max_work=max_work).program
    settings: dict[str, Any] = {"batch": batch, "threads": threads, "instruction_set": isa, "seconds": seconds}
    comparison = None if against is None else compare_engines(program, against.split(","), **settings)
    report = measure(program, **settings)
    if as_json:
        typer.echo(json.dumps(asdict(report) | ({"against": asdict(comparison)} if comparison else {})))
        return
    if profile:
        tables.console.print(tables.drawn(operation_table(report)))
    if comparison is not None:
        tables.console.print(tables.comparison_table(comparison))
    tables.say(tables.bench_line(report))
