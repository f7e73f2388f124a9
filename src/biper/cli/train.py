"""Commands that train: quickstart, train, compare; and recipes, which shows what they train."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biper.cli.options import (
    DataDir,
    Device,
    DeviceOption,
    Json,
    Overrides,
    Precision,
    PrecisionOption,
    Recipe,
    ScaleEpochs,
    Threads,
    Workers,
    complete_recipe,
)
from biper.cli.paths import next_free
from biper.cli.resume import resume_command
from biper.errors import TrainingInterrupted
from biper.training.distributed.launch import STEP_TIMEOUT, ProcessInfo, launch, needs_launch

if TYPE_CHECKING:
    from biper.lowering.verify import ExportReport
    from biper.recipes.schema import Recipe as LoadedRecipe
    from biper.runs.records import RunSummary
    from biper.training.progress import Progress


def quickstart(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: the next free runs/quickstart.")] = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
) -> None:
    """Train a 1-bit network on handwritten digits in about a minute, pack it, and compare both forms."""
    from biper.cli import tables
    from biper.recipes.load import load_recipe
    from biper.report.beside_torch import beside_torch

    out = out or next_free(Path("runs/quickstart"))
    summary, report = _train(context, load_recipe("digits"), out, device=device, threads=threads)
    tables.console.print(tables.run_table(summary, report, out))
    packed = out / "model.biper"
    tables.console.print(tables.side_table(*beside_torch(out / "model.safetensors", packed)))
    tables.say(
        f"Next: biper bench {packed}    biper evaluate {packed} --data digits    biper train cifar10-resnet20-quick"
    )


def train(
    context: typer.Context,
    recipe: Recipe,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: runs/RECIPE.")] = None,
    data_dir: DataDir = None,
    overrides: Overrides = None,
    scale_epochs: ScaleEpochs = 1.0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each stage: --set stage1.epochs=N --set stage2.epochs=N.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate of stage 1: --set stage1.learning_rate=X."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a batch: --set data.batch_size.")] = None,
    seed: Annotated[int | None, typer.Option(help="Override the seed of the recipe.")] = None,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.float32,
    compiled: Annotated[bool, typer.Option("--compile", help="Train through torch.compile.")] = False,
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="On a GPU, record a training step and repeat it as a CUDA graph.")
    ] = False,
    threads: Threads = None,
    workers: Workers = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Training processes on this machine; with CUDA, each has a GPU.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that run this same command; needs --rendezvous.")] = 1,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The address where the machines meet.")
    ] = None,
    step_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that a process waits for the others within a step.")
    ] = STEP_TIMEOUT,
    start_from: Annotated[
        Path | None, typer.Option(help="A run folder or model file; training starts from its weights.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this many seconds, with everything saved for --resume.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint, if there is one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe through both stages into a run folder, in one process or in several."""
    from dataclasses import asdict

    from biper.cli import tables
    from biper.recipes.load import load_recipe

    short = {
        "stage1.epochs": epochs,
        "stage2.epochs": epochs,
        "stage1.learning_rate": learning_rate,
        "data.batch_size": batch_size,
        "seed": seed,
    }
    loaded = load_recipe(
        recipe, [*(overrides or ()), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    )
    if scale_epochs != 1:
        loaded = loaded.scaled(scale_epochs)
    if needs_launch(devices, nodes, rendezvous):
        count = devices or 1
        loaded.require_even_shares(count * nodes)
        launch(sys.argv[1:], device=device, devices=count, machines=nodes, rendezvous=rendezvous)
        return
    out = out or Path("runs") / Path(recipe).stem
    summary, report = _train(
        context,
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
        cuda_graphs=cuda_graphs,
        seconds=seconds,
        start_from=start_from,
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps({**summary.to_json(), "packed": asdict(report)}))
    else:
        tables.console.print(tables.run_table(summary, report, out))


def compare(
    recipe: Recipe,
    methods: Annotated[str, typer.Option(help="Names of methods, such as biper,ir-net,recu; or all.")] = "",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weight quantizers of a grid, such as biper:phase_deviation=1.5,bi-real; or all. A grid trains every "
            "combination of its weights, inputs and activations; what it leaves out is as in the recipe."
        ),
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="Input quantizers of a grid, such as approx-sign,rsign; or all.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Activations of a grid, such as network,rprelu; or all.")
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="'LABEL KEY=VALUE ...'", help="A row with other settings. Repeatable."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each row, with the seed of the recipe and those after it.")
    ] = 1,
    learning_rates: Annotated[
        str | None,
        typer.Option(help="Factors of the learning rate of latent weights to try for each row, such as 1,10,30."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of all runs. Default: runs/compare-RECIPE.")] = None,
    data_dir: DataDir = None,
    overrides: Overrides = None,
    scale_epochs: ScaleEpochs = 1.0,
    device: DeviceOption = Device.auto,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train methods of binarization under one recipe and compare them; the same command again continues."""
    from biper.cli import tables
    from biper.methods.presets import METHODS
    from biper.recipes.load import load_recipe
    from biper.report.methods import compare_methods
    from biper.report.variants import Variant, grid_of_choices, read_factors
    from biper.training.devices import choose_device, set_threads
    from biper.training.progress import Progress, RichProgress

    names = list(METHODS) if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    out = out or Path("runs") / f"compare-{Path(recipe).stem}"
    set_threads(threads)
    method = load_recipe(recipe, overrides or ()).method
    grid = grid_of_choices(method, weights=weights, inputs=inputs, activation=activation)
    comparison = compare_methods(
        recipe,
        [*map(Variant.of_method, names), *grid, *map(Variant.read, variants or ())],
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


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The recipe to print, with its comments. Default: a table of all.", autocompletion=complete_recipe
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes that come with biper, or print one of them to copy and change."""
    from biper.recipes.packaged import recipe_names, recipe_text

    if name is not None and not as_json:
        typer.echo(recipe_text(name), nl=False)
        return
    from biper.cli import tables
    from biper.recipes.load import load_recipe

    if name is not None:
        recipe_text(name)  # a path is no recipe of biper's
        typer.echo(json.dumps(load_recipe(name).model_dump()))
        return
    loaded = {each: load_recipe(each) for each in recipe_names()}
    if as_json:
        typer.echo(json.dumps({each: recipe.model_dump() for each, recipe in loaded.items()}))
    else:
        tables.console.print(tables.recipe_table(loaded))


def _train(
    context: typer.Context,
    recipe: LoadedRecipe,
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
    cuda_graphs: bool = False,
    seconds: float | None = None,
    start_from: Path | None = None,
    quiet: bool = False,
) -> tuple[RunSummary, ExportReport]:
    """Train a recipe with progress on the terminal, and pack the model into the run folder.

    Returns:
        The summary of the run, and the report of the export.
    """
    from biper.cli import tables
    from biper.targets.packed.saved import export_saved
    from biper.training.devices import choose_device, set_threads
    from biper.training.progress import JsonProgress, Progress, RichProgress
    from biper.training.run import train as train_recipe

    set_threads(threads)
    rank_zero = ProcessInfo.from_environment().rank == 0
    progress: Progress = Progress()
    if rank_zero:
        progress = JsonProgress(sys.stderr) if quiet else RichProgress(tables.console)
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
            cuda_graphs=cuda_graphs,
            seconds=seconds,
            start_from=start_from,
        )
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}: {resume_command(context, out)}") from stop
    if not rank_zero:
        raise typer.Exit
    report, images = export_saved(out / "model.safetensors", out / "model.biper", data_dir=data_dir)
    progress.message(f"{out / 'model.biper'}: {report} (on {images})")
    return summary, report
