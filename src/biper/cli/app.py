"""The command line: each verb is a few lines over the library."""

from __future__ import annotations

import json
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biper.errors import BiperError, ExportError, MissingDependencyError, ModelError, TrainingInterrupted
from biper.training.distributed.launch import STEP_TIMEOUT, ProcessInfo, launch, needs_launch, should_report

if TYPE_CHECKING:
    from biper.lowering.verify import ExportReport
    from biper.recipes.schema import Recipe
    from biper.runs.records import RunSummary
    from biper.training.progress import Progress

app = typer.Typer(
    name="biper",
    help="Train 1-bit neural networks with a binary periodic function, and ship them as real 1-bit programs.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """Of what stays real-valued."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"


class FloatLayers(StrEnum):
    """What layers that stay real are exported in; see `biper.export`."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


class Format(StrEnum):
    """What a model is exported as; see docs/deploy.md."""

    biper = "biper"
    c = "c"
    html = "html"
    onnx = "onnx"
    openvino = "openvino"


DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the data set, or tar shards with braces; else the user's cache.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Precision of the computation.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that decode images; default a core each but one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[  # noqa: ARG001  read by main, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show the whole trace of an error; goes anywhere.")
    ] = False,
) -> None:
    """Options of every verb."""
    if ProcessInfo.from_environment().processes > 1 and context.invoked_subcommand != "train":
        raise ModelError(f"torchrun started several processes, but biper {context.invoked_subcommand} is for one")


@app.command()
def quickstart(
    out: Annotated[Path | None, typer.Option(help="Run folder; default the next free runs/quickstart.")] = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
) -> None:
    """Train a 1-bit network on handwritten digits, both stages, in about a minute; pack it and compare."""
    from biper.cli import tables
    from biper.recipes.load import load_recipe
    from biper.report.beside_torch import beside_torch

    out = out or _next_free(Path("runs/quickstart"))
    summary, report = _train(load_recipe("digits"), out, device=device, threads=threads)
    tables.console.print(tables.run_table(summary, report, out))
    packed = out / "model.biper"
    tables.console.print(tables.side_table(*beside_torch(out / "model.safetensors", packed)))
    tables.say(
        f"Next: biper bench {packed}    biper evaluate {packed} --data digits    biper train cifar10-resnet20-short"
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `biper recipes`) or a TOML file.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/RECIPE.")] = None,
    data_dir: DataDir = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: stage1.epochs=10.")
    ] = None,
    scale_epochs: Annotated[float | None, typer.Option(help="Multiply the epochs of both stages: 0.05.")] = None,
    seed: Annotated[int | None, typer.Option(help="Override the recipe's seed.")] = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.float32,
    compiled: Annotated[bool, typer.Option("--compile", help="Train through torch.compile.")] = False,
    threads: Threads = None,
    workers: Workers = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes on this machine, a GPU each with CUDA.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that all run this command; needs --rendezvous.")] = 1,
    rendezvous: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the machines meet.")] = None,
    step_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the others in a step.")
    ] = STEP_TIMEOUT,
    start_from: Annotated[
        Path | None, typer.Option(help="Run folder or model file whose weights to start from.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint, if any.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe through both stages into a run folder, in one process or in many."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.recipes.load import load_recipe

    settings = [*(overrides or ()), *([] if seed is None else [f"seed={seed}"])]
    loaded = load_recipe(recipe, settings)
    if scale_epochs is not None:
        loaded = loaded.scaled(scale_epochs)
    if needs_launch(devices, nodes, rendezvous):
        count = devices or 1
        loaded.require_even_shares(count * nodes)
        launch(sys.argv[1:], device=device, devices=count, machines=nodes, rendezvous=rendezvous)
        return
    out = out or Path("runs") / Path(recipe).stem
    summary, report = _train(
        loaded,
        out,
        data_dir=data_dir,
        device=device,
        precision=precision,
        threads=threads,
        workers=workers,
        step_timeout=step_timeout,
        resume=resume,
        compiled=compiled,
        start_from=start_from,
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps({**summary.to_json(), "packed": asdict(report)}))
    else:
        tables.console.print(tables.run_table(summary, report, out))


@app.command()
def compare(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `biper recipes`) or a TOML file.")],
    methods: Annotated[str, typer.Option(help="Names, such as biper,ir-net,recu; or all.")] = "",
    variants: Annotated[
        list[str] | None, typer.Option("--variant", metavar="'LABEL KEY=VALUE ...'", help="A row with other settings.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each, with the recipe's seed and those after it.")] = 1,
    learning_rates: Annotated[
        str | None, typer.Option(help="Factors of the latent weights' learning rate to try for each: 1,10,30.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where all runs go; default runs/compare-RECIPE.")] = None,
    data_dir: DataDir = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key for all of them.")
    ] = None,
    scale_epochs: Annotated[float, typer.Option(help="Multiply the epochs of both stages: 0.05.")] = 1.0,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train methods of binarization under one recipe, and say how they compare; run it again to go on."""
    from biper.cli import tables
    from biper.methods.settings import METHODS
    from biper.report.methods import Variant, compare_methods, read_factors
    from biper.training.devices import choose_device, set_threads
    from biper.training.progress import Progress, RichProgress

    names = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    out = out or Path("runs") / f"compare-{Path(recipe).stem}"
    set_threads(threads)
    comparison = compare_methods(
        recipe,
        [*map(Variant.of_method, names), *map(Variant.read, variants or ())],
        out,
        overrides=overrides or (),
        scale_epochs=scale_epochs,
        seeds=seeds,
        factors=read_factors(learning_rates),
        progress=lambda: Progress() if as_json else RichProgress(tables.console),
        data_dir=data_dir,
        device=choose_device(device),
        precision=precision.value,
        workers=workers,
    )
    if as_json:
        typer.echo((out / "compare.json").read_text(encoding="utf-8"))
        return
    tables.console.print(tables.methods_table(comparison))
    tables.say(f"{out}: compare.md, compare.png, compare.json, and a run folder for each run")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A run folder, a model.safetensors, or a packed MODEL.biper.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; default beside the model, by its name.")] = None,
    form: Annotated[Format, typer.Option("--format", help="A packed file, or what other devices take.")] = Format.biper,
    data_dir: DataDir = None,
    float_layers: Annotated[
        FloatLayers, typer.Option(help="What the layers that stay real are stored in, and computed with.")
    ] = FloatLayers.float32,
    integer_only: Annotated[bool, typer.Option("--integer-only", help="C: no floating point anywhere.")] = False,
    flash: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the device's flash, such as 128k.")] = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="C: the device's RAM, such as 64k.")] = None,
    as_json: Json = False,
) -> None:
    """Pack a trained model into one small file, after comparing both on real images; or write what a device takes."""
    from dataclasses import asdict

    from biper.cli import tables

    source = _model_file(model)
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


@app.command()
def predict(
    model: Annotated[
        str, typer.Argument(help="A packed model, MODEL.biper; or one that comes along, cifar10-resnet20.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Images of any format and size.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show of each.")] = 3,
    as_json: Json = False,
) -> None:
    """The likeliest classes of images, by a packed model; needs no torch."""
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


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A packed model, MODEL.biper.")],
    batch: Annotated[int, typer.Option(min=1, help="Images of one call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that share a call.")] = 1,
    isa: Annotated[str | None, typer.Option(help="scalar, avx2, avx512, neon, dotprod; default the best here.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the time of each operation.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="PEERS", help="Other engines: torch,onnxruntime,openvino, or some of them.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="About how long to measure; with peers, each.")] = 2.0,
    as_json: Json = False,
) -> None:
    """How fast a packed model runs here, and what share of the processor's own popcount peak that is."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.peers.engines import compare_engines
    from biper.report.run_tables import operation_table
    from biper.runtime import Model
    from biper.runtime.bench import bench as measure

    program = Model.load(model).program
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


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A run folder, a model.safetensors, or a packed MODEL.biper.")],
    data_dir: DataDir = None,
    split: Annotated[str, typer.Option(help="test, train or held-out.")] = "test",
    data: Annotated[str | None, typer.Option(help="The data set; a packed model does not know its own.")] = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Top-1 accuracy and loss of a trained model on a split of its data set."""
    from biper.cli import tables
    from biper.data import load_dataset
    from biper.measure.evaluation import evaluate as evaluate_model
    from biper.measure.evaluation import evaluate_packed
    from biper.models.saved import load_model
    from biper.runtime import Model
    from biper.training.devices import choose_device, set_threads

    set_threads(threads)
    if model.suffix == ".biper":
        if data is None:
            raise ModelError(f"{model} is a packed model: name its data set with --data, such as --data cifar10")
        packed = Model.load(model)
        size = packed.program.input_shape[-1]
        dataset = load_dataset(data, data_dir, image_size=size, classes=packed.classes, workers=workers)
        name, scores = str(model), evaluate_packed(packed, dataset.split(split))
    else:
        loaded, info = load_model(_model_file(model))
        target = choose_device(device)
        data = data or info.dataset
        dataset = load_dataset(data, data_dir, image_size=info.image_size, classes=info.labels, workers=workers)
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


@app.command()
def analyze(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not.")],
    compare: Annotated[Path | None, typer.Option(metavar="RUN", help="A second run folder to put beside it.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write; default report.html in the run folder.")] = None,
    data_dir: DataDir = None,
    images: Annotated[int | None, typer.Option(min=2, help="Test images to ask about; default all.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """What the bits of a trained network do: tables here, and with plots and pictures in one page, report.html."""
    from biper.cli import tables
    from biper.report.analysis import analyze_run
    from biper.report.run_page import write_report
    from biper.report.run_tables import run_tables
    from biper.report.side_by_side import layers_side_by_side, summary_table
    from biper.training.devices import set_threads

    set_threads(threads)
    runs = [analyze_run(path, data_dir=data_dir, images=images) for path in (run, compare) if path is not None]
    out = out or run / "report.html"
    write_report(runs, out)
    if as_json:
        typer.echo(json.dumps({"report": str(out), "runs": [each.to_json() for each in runs]}))
        return
    for each in runs:
        for note in each.notes:
            tables.say(f"{each.path}: {note}")
    for table in (summary_table(runs), *([layers_side_by_side(runs)] if compare else run_tables(runs[0]))):
        if table.rows:
            tables.console.print(tables.drawn(table, title=table.name))
    tables.say(f"Everything, with plots and pictures: {out}")


@app.command("import-reference")
def import_reference(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' model_best.pth.tar, config.txt beside it.")],
    out: Annotated[Path | None, typer.Option(help="The run folder to make; default the next free runs/MODEL.")] = None,
    model: Annotated[str | None, typer.Option(help="The authors' name of the network: resnet20_1w1a.")] = None,
    dataset: Annotated[str | None, typer.Option(help="cifar10 or imagenet, say.")] = None,
    frequency: Annotated[float | None, typer.Option(help="If config.txt does not say it.")] = None,
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="If config.txt does not say it.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint of the method's authors into a run folder, to evaluate, inspect and export."""
    from dataclasses import asdict

    from biper import interop
    from biper.cli import tables

    read = interop.read_reference_checkpoint(checkpoint, model=model, dataset=dataset, frequency=frequency, stage=stage)
    out = out or _next_free(Path("runs") / read.model)
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


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes that come with biper."""
    from biper.cli import tables
    from biper.recipes.load import load_recipe, recipe_names

    loaded = {name: load_recipe(name) for name in recipe_names()}
    if as_json:
        typer.echo(json.dumps({name: recipe.model_dump() for name, recipe in loaded.items()}))
    else:
        tables.console.print(tables.recipe_table(loaded))


@app.command()
def inspect(
    target: Annotated[
        str, typer.Argument(help="A network's name, a run folder, a model.safetensors, or a packed MODEL.biper.")
    ],
    dataset: Annotated[str, typer.Option(help="For a network's name: the data set that it is for.")] = "cifar10",
    bits: Annotated[str, typer.Option(help="For a network's name: W1A1, W1A32 or W32A32.")] = "W1A1",
    as_json: Json = False,
) -> None:
    """Layers of a network: shapes, parameters, bits, multiply-accumulates, float and packed size."""
    from dataclasses import asdict

    from biper.cli import tables

    if target.endswith(".biper"):
        _inspect_packed(Path(target), as_json)
        return
    from biper.data.specs import dataset_spec
    from biper.measure.size import model_sizes, summarize
    from biper.models import create_model
    from biper.models.saved import load_model
    from biper.report.run_tables import network_table

    size = None
    if Path(target).exists():
        model, info = load_model(_model_file(Path(target)))
        dataset, size = info.dataset, info.image_size
    elif "/" in target or target.endswith(".safetensors"):
        raise ModelError(f"no file or folder {target}: inspect expects a run folder, a model file or a network's name")
    else:
        model = create_model(target, dataset=dataset, bits=bits)
    spec = dataset_spec(dataset)
    size = size or spec.image_size
    layers = summarize(model, (spec.channels, size, size))
    sizes = model_sizes(model)
    if as_json:
        typer.echo(json.dumps({"layers": [asdict(layer) for layer in layers], **sizes.to_json()}))
    else:
        tables.console.print(tables.drawn(network_table(layers, sizes)))


def _inspect_packed(path: Path, as_json: bool) -> None:
    """Operations of a packed model; needs no torch."""
    from biper.cli import tables
    from biper.runtime import Model

    program = Model.load(path).program
    size = path.stat().st_size
    if as_json:
        rows = [
            {"source": op.source, "operation": op.operation, "shape": op.shape, "bytes": op.nbytes}
            for op in program.operations
        ]
        row = {"input": program.input_shape, "classes": program.classes, "bytes": size, "operations": rows}
        typer.echo(json.dumps(row))
    else:
        tables.console.print(tables.program_table(program, size))


def _train(
    recipe: Recipe,
    out: Path,
    *,
    device: Device,
    threads: int | None,
    data_dir: Path | None = None,
    precision: Precision = Precision.float32,
    workers: int | None = None,
    step_timeout: float = STEP_TIMEOUT,
    resume: bool = False,
    compiled: bool = False,
    start_from: Path | None = None,
    quiet: bool = False,
) -> tuple[RunSummary, ExportReport]:
    """What `train` and `quickstart` share: threads, progress on the terminal, the run itself, the packed model."""
    from biper.cli import tables
    from biper.targets.packed.saved import export_saved
    from biper.training.devices import choose_device, set_threads
    from biper.training.progress import Progress, RichProgress
    from biper.training.run import train as train_recipe

    set_threads(threads)
    first = ProcessInfo.from_environment().rank == 0
    progress: Progress = Progress() if quiet or not first else RichProgress(tables.console)
    try:
        summary = train_recipe(
            recipe,
            out,
            data_dir=data_dir,
            device=choose_device(device),
            precision=precision.value,
            workers=workers,
            resume=resume,
            progress=progress,
            step_timeout=step_timeout,
            compiled=compiled,
            start_from=start_from,
        )
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(
            f"{stop}: biper train {out / 'recipe.toml'} --out {out} --resume, with the same --data-dir, --threads and "
            "--devices if you gave them"
        ) from stop
    if not first:
        raise typer.Exit
    report, images = export_saved(out / "model.safetensors", out / "model.biper", data_dir=data_dir)
    progress.message(f"{out / 'model.biper'}: {report} (on {images})")
    return summary, report


def _model_file(path: Path) -> Path:
    """The model file that a path stands for: itself, or a run folder's ``model.safetensors``."""
    if not path.exists():
        raise ModelError(f"no file or folder {path}: expected a run folder or a model.safetensors")
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").exists():
        raise ModelError(f"{path} holds no model.safetensors: not a run folder, or a run that is not finished")
    return path / "model.safetensors"


def _next_free(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is not there yet."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def main() -> None:
    """The entry point: runs a verb and turns what goes wrong into one line and an exit status."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if ProcessInfo.from_environment().rank == 0:
        warnings.showwarning = lambda message, *_args, **_options: typer.echo(f"warning: {message}", err=True)
    else:
        warnings.simplefilter("ignore")
    try:
        status = app(arguments, prog_name="biper", standalone_mode=False)
    except KeyboardInterrupt:
        status = _fail("interrupted", 130, debug)
    except BiperError as error:
        status = _fail(str(error), error.exit_code, debug)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        status = _fail(f"{error.strerror or error}{where}", 1, debug)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "biper":
            raise
        missing = MissingDependencyError(f"this needs the package {error.name!r}: pip install 'biper[train]'")
        status = _fail(str(missing), missing.exit_code, debug)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it; anything else is a bug, shown whole
            raise
        status = _fail(f"{error.format_message()} (see biper --help)", getattr(error, "exit_code", 2), debug)
    sys.exit(status)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    if should_report(sys.exception()):
        typer.echo(f"error: {' '.join(message.split())}", err=True)
    return status
