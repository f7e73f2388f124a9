"""The tables and lines that commands print on a terminal, drawn by rich."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table as TerminalTable

from biper.report.table import Table, size
from biper.report.terminal import PlainConsole

if TYPE_CHECKING:
    from biper.lowering.verify import ExportReport
    from biper.peers.engines import Comparison, PeerTime
    from biper.recipes.schema import Recipe
    from biper.report.beside_torch import ModelFigures
    from biper.report.methods_table import MethodComparison
    from biper.runs.records import RunSummary
    from biper.runtime.bench import BenchReport
    from biper.runtime.pretrained import ModelCard
    from biper.runtime.program import Program

console = PlainConsole(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
"""Standard output. Lines of text are not wrapped; tables have the width of the terminal, or 160 columns elsewhere."""


def say(text: str) -> None:
    """Print a line without the highlighting of rich."""
    console.print(text, highlight=False)


def run_table(summary: RunSummary, report: ExportReport, out: Path) -> TerminalTable:
    """The results of a run: accuracies and errors of each stage, sizes, time and the run folder."""
    from biper.report.side_by_side import SCORE_NAMES

    model, data = summary.recipe["model"], summary.recipe["data"]
    table = TerminalTable(title=f"{model['name']} {model['bits']} on {data['name']}", show_header=False)
    waves = (" (sine)", " (square wave)") if len(summary.stages) == 2 and model["bits"] != "W32A32" else ("", "")
    results = {f"stage {number}{waves[number - 1]}": result for number, result in enumerate(summary.stages, 1)}
    if summary.teacher is not None:
        results = {"teacher": summary.teacher.stage, **results}
    for name, result in results.items():
        table.add_row(f"{name}: {SCORE_NAMES[result.score.split]}", f"{result.score.accuracy:.2%}")
        errors = list(result.quantization_error.values())
        if errors:
            table.add_row(f"{name}: quantization error, mean over layers", f"{sum(errors) / len(errors):.3f}")
        lost = list((result.relative_error or {}).values())
        if lost:
            table.add_row(f"{name}: energy of weights lost to one bit", f"{sum(lost) / len(lost):.1%}")
    float_bytes, packed = summary.sizes.float_bytes, report.file_bytes
    table.add_row("float size", size(float_bytes))
    table.add_row("packed file (model.biper)", f"{size(packed)}, {float_bytes / packed:.1f} times smaller")
    epoch = (
        "of the last epoch" if summary.selection == "last" else "of the epoch with the best accuracy on held-out images"
    )
    table.add_row("weights", epoch)
    table.add_row("time", f"{summary.seconds:,.0f} s")
    table.add_row("everything is in", str(out))
    for column in table.columns:
        column.overflow = "fold"
    return table


def side_table(real: ModelFigures, bits: ModelFigures) -> TerminalTable:
    """A model in torch beside its packed file: accuracy, time and size, and their ratios."""
    table = _compact("", "torch", "packed", "ratio")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("test accuracy", f"{real.accuracy:.2%}", f"{bits.accuracy:.2%}", "")
    times = (f"{side.seconds * 1e3:.3f} ms" for side in (real, bits))
    table.add_row("one image, one thread", *times, f"{real.seconds / bits.seconds:.0f} x")
    sizes = (size(side.file_bytes) for side in (real, bits))
    table.add_row("file", *sizes, f"{real.file_bytes / bits.file_bytes:.1f} x")
    return table


def recipe_table(recipes: Mapping[str, Recipe]) -> TerminalTable:
    """The recipes that come with biper, one in each row."""
    table = _compact("recipe", "bits", "data", "epochs", "what it is")
    for name, recipe in recipes.items():
        epochs = f"{recipe.stage1.epochs} + {recipe.stage2.epochs}"
        table.add_row(name, recipe.model.bits, recipe.data.name, epochs, recipe.description)
    return table


def model_table(cards: Mapping[str, ModelCard], sizes: Mapping[str, int]) -> TerminalTable:
    """The packed models that come with biper, one in each row."""
    table = _compact("model", "data", "test accuracy", "size", "what it is")
    for name, card in cards.items():
        table.add_row(name, card.data, f"{card.accuracy:.2%}", size(sizes[name]), card.description)
    return table


def card_table(card: ModelCard, file_bytes: int) -> TerminalTable:
    """How one of these models was trained, and what it reaches."""
    table = TerminalTable(title=card.description, show_header=False)
    table.add_row("test accuracy", f"{card.accuracy:.2%}, {card.correct:,} of {card.images:,} {card.data} test images")
    table.add_row("size", size(file_bytes))
    table.add_row("trained by", card.command)
    table.add_row("epochs", f"{card.epochs}; the weights are {card.weights}")
    table.add_row("on", card.machine)
    return table


def drawn(data: Table, *, title: str | None = None) -> TerminalTable:
    """Draw a table of data: text is aligned to the left, numbers to the right, and the caption is below."""
    table = _compact(*(column.title for column in data.columns))
    table.title, table.title_justify = title, "left"
    for column, described in zip(table.columns, data.columns, strict=True):
        if described.show is not None:
            column.justify = "right"
    for row in data.rows:
        table.add_row(*data.text(row))
    table.caption, table.caption_justify = data.caption, "left"
    return table


def program_table(program: Program, file_bytes: int) -> TerminalTable:
    """The operations of a packed model, and the shapes of its images and outputs."""
    table = _compact("operation", "kind", "emits", "shape", "bytes")
    for op in program.operations:
        emits = " and ".join(name for name, value in (("real", op.real), ("bits", op.bits)) if value is not None)
        table.add_row(op.source, op.operation, emits, _sizes(op.shape), f"{op.nbytes:,}")
    names = f", {', '.join(program.classes[:3])}, ..." if len(program.classes) > 3 else ""
    outputs = " x ".join(str(count) for count in program.output_shape if count > 1) or "1"
    table.caption = f"{size(file_bytes)}; images {_sizes(program.input_shape)}; {outputs} outputs{names}"
    if program.inputs:
        others = ", ".join(f"{name} {_sizes(shape)}" for name, shape in program.inputs.items())
        table.caption += f"; further inputs: {others}"
    if program.outputs:
        shapes = program.shapes
        results = ", ".join(f"{name} {_sizes(shapes[value])}" for name, value in program.outputs.items())
        table.caption += f"; named results: {results}"
    if program.preprocessing is not None:
        table.caption += f"\npictures: {program.preprocessing}"
    table.caption_justify = "left"
    return table


def _sizes(shape: tuple[int, ...]) -> str:
    """A shape as text, such as ``3 x 32 x 32``; that of a single number is 1."""
    return " x ".join(map(str, shape)) or "1"


def bench_line(report: BenchReport) -> str:
    """The measured time of a call, and the speed of its binary operations as a share of the measured peak."""
    spent = sum(op.seconds for op in report.operations if op.binary_macs)
    rate = report.binary_macs / spent if spent else 0.0
    return (
        f"{report.instruction_set}, {report.threads} thread(s), batch {report.batch}, {report.calls:,} calls: median "
        f"{report.median_seconds * 1e3:.3f} ms, minimum {report.minimum_seconds * 1e3:.3f} ms, "
        f"{report.images_per_second:,.0f} images/s; binary operations {rate / 1e12:.2f} tera-multiply-accumulates/s, "
        f"{rate / report.peak_macs_per_second:.0%} of one core's measured peak; {size(report.memory_bytes)} of memory"
    )


def comparison_table(comparison: Comparison) -> TerminalTable:
    """The engines that were timed, one in each row: time of a call, ratio to ours, and agreement of the results."""
    table = _compact("engine", "median", "minimum", "ratio", "results", "form")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in comparison.rows:
        if row.median_seconds is None or row.minimum_seconds is None:
            table.add_row(row.name, "", "", "", "", row.refused)
            continue
        times = [f"{seconds * 1e3:.3f} ms" for seconds in (row.median_seconds, row.minimum_seconds)]
        table.add_row(row.name, *times, f"{row.ratio:.2f}", _results(row), row.form)
    processors = ", ".join(map(str, comparison.processors))
    versions = ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
    table.caption = (
        f"a call of {comparison.batch} image(s), {comparison.threads} thread(s) on processor {processors} (had "
        f"{comparison.processor_share:.2f} of one), all in one run, in turn; ratio: of medians, theirs to ours. The "
        f"float twin is the same network with float32 weights and relu for binarization. {versions}"
    )
    table.caption_justify = "left"
    return table


def methods_table(comparison: MethodComparison) -> TerminalTable:
    """The methods that were compared, one in each row; the caption explains the columns."""
    from biper.report.methods_table import HEADERS, caption, cells

    table = _compact(*HEADERS)
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in comparison.rows:
        table.add_row(*cells(row))
    table.caption = caption(comparison)
    table.caption_justify = "left"
    return table


def _results(row: PeerTime) -> str:
    """How the results of an engine agree with those of the reference, in words."""
    function = "same function" if row.network == "program" else row.network
    if row.equal_images == row.images:
        return f"{function}, equal to {row.deviation:.0e}"
    if row.network == "float twin":
        return f"{function}, within {row.deviation:.1%}"
    return f"{function}, {row.equal_images} of {row.images} images equal, {row.same_top1} same top-1"


def _compact(*headers: str) -> TerminalTable:
    """An empty table without vertical lines; words that are too long for a narrow terminal are folded, never cut."""
    table = TerminalTable(*headers, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    return table
