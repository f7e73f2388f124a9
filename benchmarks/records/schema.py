"""The record of a machine: what it is, and for each comparison its rows and the conditions that they were measured in.

A record is a JSON file in ``benchmarks/results``. `benchmarks/all.py` writes it, and the documentation reads it.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, StrictInt, ValidationError

from records import rows
from records.rows import Strict

RESULTS = Path(__file__).resolve().parents[1] / "results"
"""Where the records are that the documentation shows, one for each machine."""

Row = TypeVar("Row", bound=Strict)


class RecordError(Exception):
    """A file is no record; the message is one line."""


class Machine(Strict):
    """A machine, as a reader of the documentation has to know it.

    Attributes:
        title: how the documentation names it.
        processor: its name as the operating system gives it.
        instruction_sets: those that biper's kernels look for, oldest first.
        cores: how many the system has; None where it is not known.
        system: the operating system and its architecture.
        compiler: of the C programs that are timed; None where it is not known.
    """

    title: str
    processor: str
    instruction_sets: tuple[str, ...]
    cores: StrictInt | None
    system: str
    compiler: str | None


class Measured(Strict, Generic[Row]):
    """The rows of a comparison, and what a reader has to know about the run that measured them.

    Attributes:
        command: what measures them again.
        date: when they were measured; for rows with a ``source``, when the documentation had them first.
        commit: of the code; None where it is not known.
        processors: the numbers of the processors on which the process could run; None where they are not known.
        load: how many processes wanted a processor when the run began, a mean of one minute; None where not known.
        took: seconds that the comparison took; None where they are not known.
        versions: of the packages that were timed or used, by name.
        quick: few repetitions: the numbers show that the comparison runs, and little more.
        source: where the rows come from if a run did not write them.
        left_out: what could not be measured, by name, and why.
        rows: what was measured.
    """

    command: str
    date: date
    commit: str | None
    processors: tuple[int, ...] | None
    load: float | None
    took: float | None
    versions: dict[str, str]
    quick: bool
    source: str | None
    left_out: dict[str, str]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Comparisons(Strict):
    """The comparisons that were measured on a machine; those that were not are None."""

    engines: Measured[rows.EngineRow] | None = None
    packed: Measured[rows.PackedRow] | None = None
    layers: Measured[rows.LayerRow] | None = None
    operations: Measured[rows.OperationRow] | None = None
    training: Measured[rows.TrainingRow] | None = None
    schedules: Measured[rows.ScheduleRow] | None = None
    threads: Measured[rows.ThreadsRow] | None = None
    memory: Measured[rows.MemoryRow] | None = None
    input: Measured[rows.InputRow] | None = None
    c: Measured[rows.CRow] | None = None
    formats: Measured[rows.FormatRow] | None = None
    calls: Measured[rows.CallRow] | None = None
    decoding: Measured[rows.DecodingRow] | None = None
    watching: Measured[rows.WatchingRow] | None = None


class Record(Strict):
    """A machine and what was measured on it. ``format`` is the version of this layout."""

    format: Literal[1]
    machine: Machine
    comparisons: Comparisons


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: the file cannot be read, is not JSON, or lacks a field, has an unknown one, or one of a wrong type.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: the record cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RecordError(
            f"{path}: not a record of benchmarks/all.py: {place}: {' '.join(first['msg'].split())}; correct the file, "
            "or measure into a new one"
        ) from None


def write_record(record: Record, path: Path) -> None:
    """Write a record; the file is replaced only when the new one is whole."""
    content: dict[str, Any] = record.model_dump(mode="json")
    content["comparisons"] = {name: found for name, found in content["comparisons"].items() if found is not None}
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(_json(content) + "\n", encoding="utf-8")
    partial.replace(path)


def read_results(folder: Path = RESULTS) -> list[Record]:
    """The records of a folder, in the order of their file names."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def _json(value: Any, indent: str = "") -> str:
    """JSON with one row of a table a line, so that changes of a record are easy to read."""
    if isinstance(value, dict) and (not indent or any(isinstance(child, dict | list) for child in value.values())):
        deeper = indent + "  "
        lines = [f"{deeper}{json.dumps(key)}: {_json(child, deeper)}" for key, child in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"{indent}  {json.dumps(row)}" for row in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
