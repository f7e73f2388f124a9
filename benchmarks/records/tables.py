"""Rows of comparisons as tables in Markdown, for the documentation and for what the scripts print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from records import rows
from records.schema import Measured, Record


@dataclass(frozen=True)
class Table:
    """How a comparison is shown.

    Attributes:
        title: the heading of its section.
        about: what the columns are, in a sentence or two.
        draw: makes the table from the rows.
    """

    title: str
    about: str
    draw: Callable[[Sequence[Any]], str]


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    head = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*head, *("| " + " | ".join(line) + " |" for line in lines)])


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds in four digits; nothing for None."""
    return "" if seconds is None else f"{_digits(seconds * 1e3)} ms"


def microseconds(seconds: float | None) -> str:
    """Seconds as microseconds in four digits; nothing for None."""
    return "" if seconds is None else f"{_digits(seconds * 1e6)} µs"


def _digits(number: float) -> str:
    """A number in four digits without zeros at the end, or in all digits before the point."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}".replace("%", " %")


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def _scaled(number: float | None) -> str:
    """A count with the prefix of a thousand, million, billion or trillion."""
    if number is None:
        return ""
    for step, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= step:
            return f"{number / step:.3g} {name}"
    return f"{number:g}"


def engines(found: Sequence[rows.EngineRow]) -> str:
    """A row for each network and number of images, a column for each engine."""
    names = list(dict.fromkeys(row.engine for row in found))
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for row in found:
        text = milliseconds(row.median) + ("" if row.engine == "biper" else f" ({_ratio(row.ratio)})")
        cells.setdefault((row.network, row.batch), {})[row.engine] = text
    lines = [
        [network, str(batch), *(by_engine.get(name, "") for name in names)]
        for (network, batch), by_engine in cells.items()
    ]
    return markdown(["network", "images a call", *names], lines)


def packed(found: Sequence[rows.PackedRow]) -> str:
    """A row for each way to run a network."""
    heads = ["network", "kernels", "threads", "images a call", "a call", "images/s", "share of peak"]
    lines = [
        [
            row.network,
            row.instruction_set,
            str(row.threads),
            str(row.batch),
            milliseconds(row.median),
            _number(row.images_per_second),
            _percent(row.share_of_peak),
        ]
        for row in found
    ]
    return markdown(heads, lines)


def layers(found: Sequence[rows.LayerRow]) -> str:
    """A row for each layer; a column for each engine and what it writes."""
    columns = list(dict.fromkeys((row.engine, row.out) for row in found))
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in found:
        text = microseconds(row.median)
        if row.ratio is not None:
            text = f"{text} ({_ratio(row.ratio)})" if text else _ratio(row.ratio)
        if row.share_of_peak is not None:
            text += f", {_percent(row.share_of_peak)}"
        cells.setdefault(row.layer, {})[row.engine, row.out] = text
    heads = ["layer", *(f"{engine}, {out} out" for engine, out in columns)]
    return markdown(heads, [[name, *(line.get(column, "") for column in columns)] for name, line in cells.items()])


def operations(found: Sequence[rows.OperationRow]) -> str:
    """A row for each kind of operation."""
    lines = []
    for row in found:
        spent, macs = microseconds(row.least), row.multiply_accumulates
        rate = _scaled(macs and macs / row.least)
        if row.most > row.least:
            spent = f"{spent.removesuffix(' µs')} to {microseconds(row.most)}"
            rate = rate and f"{_scaled(macs and macs / row.most)} to {rate}"
        lines.append([row.kind, str(row.count), spent, _scaled(macs), rate])
    return markdown(["operations", "how many", "time of each", "multiply-accumulates", "a second"], lines)


def training(found: Sequence[rows.TrainingRow]) -> str:
    """A row for each network, stage and precision."""
    heads = ["network", "batch", "stage", "precision", "kernels", "plain", "biper", "ratio", "images/s", "of ceiling"]
    lines = [
        [
            row.network,
            str(row.batch),
            str(row.stage),
            row.precision,
            row.kernels,
            milliseconds(row.plain),
            milliseconds(row.seconds),
            _ratio(row.ratio),
            _number(row.images_per_second),
            _percent(row.share_of_ceiling),
        ]
        for row in found
    ]
    return markdown(heads, lines)


def schedules(found: Sequence[rows.ScheduleRow]) -> str:
    """A row for each recipe, with the length of its whole schedule."""
    lines = [
        [row.network, str(row.batch), row.precision, _number(row.images_per_second), f"{_number(row.hours)} h"]
        for row in found
    ]
    return markdown(["recipe", "batch", "precision", "images/s, one core", "the whole schedule, one core"], lines)


def threads(found: Sequence[rows.ThreadsRow]) -> str:
    """A row for each network."""
    lines = [
        [row.network, str(row.batch), row.precision, milliseconds(row.one), milliseconds(row.two), _ratio(row.ratio)]
        for row in found
    ]
    return markdown(["network", "batch", "precision", "one thread", "two threads", "ratio"], lines)


def memory(found: Sequence[rows.MemoryRow]) -> str:
    """A row for each network and precision."""
    lines = [
        [row.network, str(row.batch), row.precision, f"{row.plain:,.0f} MB", f"{row.biper:,.0f} MB", _ratio(row.ratio)]
        for row in found
    ]
    return markdown(["network", "batch", "precision", "plain", "biper", "ratio"], lines)


def input_images(found: Sequence[rows.InputRow]) -> str:
    """A row for each data set."""
    lines = [
        [row.network, str(row.batch), f"{row.torch:,.0f} images/s", f"{row.biper:,.0f} images/s", _ratio(row.ratio)]
        for row in found
    ]
    return markdown(["images", "batch", "torch's operators", "biper", "ratio"], lines)


def c(found: Sequence[rows.CRow]) -> str:
    """A row for each program."""
    lines = [
        [row.network, row.program, milliseconds(row.fastest), milliseconds(row.median), _ratio(row.ratio)]
        for row in found
    ]
    return markdown(["network", "program", "fastest", "median", "times the scalar engine's"], lines)


def formats(found: Sequence[rows.FormatRow]) -> str:
    """A row for each form."""
    return markdown(
        ["network", "form", "one image, fastest"],
        [[row.network, row.form, milliseconds(row.fastest)] for row in found],
    )


def calls(found: Sequence[rows.CallRow]) -> str:
    """A row for each network."""
    lines = [
        [
            row.network,
            f"{microseconds(row.libbiper_fastest)} / {microseconds(row.libbiper_median)}",
            f"{microseconds(row.model_fastest)} / {microseconds(row.model_median)}",
        ]
        for row in found
    ]
    return markdown(["network", "libbiper, fastest / median", "`Model` of Python, fastest / median"], lines)


def decoding(found: Sequence[rows.DecodingRow]) -> str:
    """A row for each size of the result."""
    lines = [
        [
            str(row.size),
            f"{row.plain:,.0f}",
            f"{row.worker:,.0f} ({_ratio(row.worker_ratio)} times)",
            f"{row.normalized:,.0f} ({_ratio(row.normalized_ratio)} times)",
        ]
        for row in found
    ]
    heads = ["pixels", "Pillow and transforms image by image, images/s", "biper, the work of a worker"]
    return markdown([*heads, "biper, with normalization of the batch"], lines)


def watching(found: Sequence[rows.WatchingRow]) -> str:
    """A row for each recipe."""
    lines = [
        [
            row.recipe,
            str(row.steps),
            milliseconds(row.step),
            milliseconds(row.measuring),
            f"{row.share:.2%}",
            _percent(row.once_an_epoch),
        ]
        for row in found
    ]
    return markdown(["recipe", "steps", "a step", "measuring, a step", "share", "of it once an epoch"], lines)


TABLES: dict[str, Table] = {
    "engines": Table(
        "Against other engines",
        "Medians of single calls, all engines in turn; the number in brackets says how many times as long as biper an "
        "engine takes.",
        engines,
    ),
    "packed": Table(
        "The packed model", "Medians of calls on biper's engine. The peak is that of one core, in the same run.", packed
    ),
    "layers": Table(
        "Binary 3x3 layers alone",
        "Medians; in brackets the ratio to biper's fastest kernels of that kind (to AVX2's for int8), and the share of "
        "the peak of the instruction set.",
        layers,
    ),
    "operations": Table("ResNet-18 at 224x224, by operation", "Median times on one image.", operations),
    "training": Table(
        "Training steps",
        "Medians of steps in turn; *plain* is always in float32; the ratio is of plain to biper; the ceiling is a "
        "matrix product of torch in the same precision.",
        training,
    ),
    "schedules": Table(
        "Schedules of the recipes", "The measured speed times the length of the whole schedule.", schedules
    ),
    "threads": Table("Training with two threads", "Medians of a step of stage 1.", threads),
    "memory": Table("Memory of training", "What three steps add at the peak.", memory),
    "input": Table("Images of a training batch", "Crop, mirror and normalize.", input_images),
    "c": Table("C of a packed model", "One image, one thread, gcc, with the flags that stand in the row.", c),
    "formats": Table("The forms of a packed model", "The fastest of some hundred calls, taken in turns.", formats),
    "calls": Table("Calls from C and from Python", "One image, one thread, the same engine.", calls),
    "decoding": Table("Decoding of photographs", "Medians of one thread, by processor time.", decoding),
    "watching": Table("The cost of logging", "Processor time of one thread.", watching),
}
"""How each comparison is shown, in the order of the page of benchmarks."""


def caption(record: Record, measured: Measured[Any]) -> str:
    """The sentences below a table: machine, date, commit, conditions, command, and what was left out."""
    parts = [record.machine.title]
    if measured.processors:
        parts.append(f"processor {', '.join(map(str, measured.processors))}")
    parts.append(measured.date.isoformat())
    if measured.commit:
        parts.append(f"commit {measured.commit}")
    if measured.load is not None:
        parts.append(f"load at the start {measured.load:.1f}")
    parts += [f"{name} {number}" for name, number in measured.versions.items()]
    text = f"{', '.join(parts)}: `{measured.command}`."
    if measured.quick:
        text += " **Measured with few repetitions.**"
    if measured.source:
        text += f" {measured.source}"
    for name, why in measured.left_out.items():
        text += f" Left out: {name} ({why.rstrip('.')})."
    return text


def shown(name: str, record: Record) -> str:
    """The table of a comparison on one machine, with its caption; empty if it was not measured there."""
    measured: Measured[Any] | None = getattr(record.comparisons, name)
    return "" if measured is None else f"{TABLES[name].draw(measured.rows)}\n\n{caption(record, measured)}"


def comparison(name: str, records: Iterable[Record]) -> str:
    """The tables of a comparison, one for each machine that has it, with the meaning of the columns first.

    Raises:
        KeyError: there is no such comparison.
    """
    table = TABLES[name]
    parts = [shown(name, record) for record in records]
    return "\n\n".join([table.about, *(part for part in parts if part)])


def page(records: Iterable[Record]) -> str:
    """Every table of every machine, under a heading for the machine and one for the comparison."""
    parts = []
    for record in records:
        machine = record.machine
        parts.append(f"## {machine.title}")
        cores = "" if machine.cores is None else f", {machine.cores} cores"
        compiler = "" if machine.compiler is None else f", {machine.compiler}"
        sets = ", ".join(machine.instruction_sets)
        parts.append(f"{machine.processor}{cores}, {machine.system}{compiler}. Instruction sets: {sets}.")
        for name, table in TABLES.items():
            if text := shown(name, record):
                parts += [f"### {table.title}", table.about, text]
    return "\n\n".join(parts)
