"""Runs every comparison of speed of the documentation on this machine, and writes what they found into a record.

    python benchmarks/all.py --json benchmarks/results/MACHINE.json --title "AMD EPYC (Zen 3), AVX2"
    python benchmarks/all.py --json FILE --only engines,packed
    python benchmarks/all.py --json FILE --resume
    python benchmarks/all.py --json FILE --quick
    python benchmarks/all.py --readme benchmarks/results/MACHINE.json

In each comparison the programs that are compared take turns in one process, so that other work on the machine affects
all of them. Each comparison runs in a process of its own, pinned to the last processors that this process may use, and
its rows replace those that the record had. The file is written after every comparison. If one fails, the others run all
the same, and the exit code is 1. ``--resume`` leaves out the comparisons that the record has from this commit.

The documentation shows the records in ``benchmarks/results``: see ``docs/reference/benchmarks.md``. ``--readme`` writes
the table of the README from a record.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from comparisons import COMPARISONS, Settings, Unavailable
from records.here import ROOT, this_commit, this_machine
from records.schema import Comparisons, Measured, Record, RecordError, read_record, write_record
from records.summary import summary
from records.tables import shown

README = ROOT / "README.md"
PART = re.compile(r"(<!-- speed: summary -->\n)(?:\|.*\n)*")
"""The part of the README that is written from a record: a comment, and the table below it."""


def main(words: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(words)
    settings = Settings(options.quick, options.images, options.libbiper)
    if options.readme:
        write_readme(options.readme)
        return 0
    if options.part:
        print(json.dumps(measure(options.part, settings)))
        return 0
    record = start(options.json, options.title)
    chosen, commit = list(options.only or COMPARISONS), this_commit()
    if options.resume:
        chosen = [name for name in chosen if not is_there(record, name, commit, options.quick)]
    failed = []
    for number, name in enumerate(chosen):
        left = sum(expected_seconds(record, each, options.quick) for each in chosen[number:])
        print(f"[{number + 1}/{len(chosen)}] {name}, about {time_left(left)} left", file=sys.stderr, flush=True)
        try:
            found = measure_apart(name, options) | {"commit": commit}
            measured = {field: getattr(record.comparisons, field) for field in Comparisons.model_fields}
            whole = {"comparisons": Comparisons.model_validate(measured | {name: found})}
            record = record.model_copy(update=whole)
            write_record(record, options.json)
        except (Failure, ValueError) as error:
            failed.append(name)
            print(f"{name} failed: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
        except Unavailable as error:
            print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
        else:
            print(f"{shown(name, record)}\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; all others are in {options.json}", file=sys.stderr)
    return 1 if failed else 0


class Failure(Exception):
    """A comparison failed; the message is the last line that it printed."""


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the record; what it has of other comparisons stays")
    parser.add_argument("--title", help="how the documentation names this machine, for a new record")
    parser.add_argument("--only", type=names, metavar="NAME,...", help=f"some of {', '.join(COMPARISONS)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions; the record says so")
    parser.add_argument("--resume", action="store_true", help="leave out what the record has from this commit")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="class folders with photographs, for decoding")
    parser.add_argument("--libbiper", type=Path, metavar="FOLDER", help="where libbiper is built, for calls")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write the README's table from this record")
    parser.add_argument("--part", choices=list(COMPARISONS), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if not (options.json or options.readme or options.part):
        parser.error("--json FILE is missing: the file that the record is written to")
    return options


def names(text: str) -> list[str]:
    """The comparisons in a text such as ``engines,packed``."""
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in COMPARISONS:
            raise argparse.ArgumentTypeError(f"no comparison {name!r}; there are {', '.join(COMPARISONS)}")
    return found


def start(path: Path, title: str | None) -> Record:
    """The record to go on with, or an empty one.

    Raises:
        RecordError: the file is no record, or one of another machine.
    """
    machine = this_machine(title)
    if not path.exists():
        return Record(format=1, machine=machine, comparisons=Comparisons())
    record = read_record(path)
    there = record.machine
    if (there.processor, there.instruction_sets) != (machine.processor, machine.instruction_sets):
        raise RecordError(
            f"{path}: the record of another machine, {there.processor}; this one is {machine.processor}: give a new "
            "file to --json"
        )
    return record.model_copy(update={"machine": this_machine(title or there.title)})


def is_there(record: Record, name: str, commit: str | None, quick: bool) -> bool:
    """Whether the record has a comparison from this commit, with no fewer repetitions."""
    measured: Measured[Any] | None = getattr(record.comparisons, name)
    return measured is not None and measured.commit == commit and (quick or not measured.quick) and not measured.source


def expected_seconds(record: Record, name: str, quick: bool) -> float:
    """How long a comparison took the last time, or else about how long it takes."""
    measured: Measured[Any] | None = getattr(record.comparisons, name)
    if measured is not None and measured.took is not None and measured.quick == quick:
        return measured.took
    return COMPARISONS[name].quick_seconds if quick else COMPARISONS[name].seconds


def time_left(seconds: float) -> str:
    """A time in words."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def measure_apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a comparison in a process of its own; returns the fields of `Measured` but the commit.

    Raises:
        Failure: it ended with an error.
        Unavailable: it cannot run here.
    """
    passed = ["--quick"] if options.quick else []
    for flag, value in (("--images", options.images), ("--libbiper", options.libbiper)):
        passed += [flag, str(value)] if value else []
    done = subprocess.run([sys.executable, __file__, "--part", name, *passed], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"its process ended with code {done.returncode}; what it printed stands above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "unavailable" in found:
        raise Unavailable(found["unavailable"])
    quick = " --quick" if options.quick else ""
    return found | {"command": f"python benchmarks/all.py --only {name}{quick} --json FILE"}


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Pin this process, run a comparison, describe its conditions: fields of `Measured` but command and commit."""
    comparison = COMPARISONS[name]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    processors: tuple[int, ...] | None = None
    if hasattr(os, "sched_setaffinity"):
        usable = tuple(sorted(os.sched_getaffinity(0)))
        if comparison.processors > len(usable):
            return {"unavailable": f"it needs {comparison.processors} processors, and this process may use one"}
        processors = usable[-comparison.processors :]
        os.sched_setaffinity(0, processors)
    began = time.perf_counter()
    try:
        found = comparison.measure(settings)
    except (Unavailable, ModuleNotFoundError) as error:
        return {"unavailable": str(error)}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processors": processors,
        "load": load and round(load, 1),
        "took": round(time.perf_counter() - began, 1),
        "versions": found.versions,
        "quick": settings.quick,
        "source": None,
        "left_out": found.left_out,
        "rows": [rounded(row.model_dump()) for row in found.rows],
    }


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row with five digits of each number."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def write_readme(path: Path) -> None:
    """Write the table of the README from a record."""
    table = summary(read_record(path))
    text, count = PART.subn(lambda found: f"{found[1]}{table}\n", README.read_text(encoding="utf-8"))
    if count != 1:
        raise RecordError(f"{README}: expected one comment <!-- speed: summary -->, found {count}")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except RecordError as refused:
        raise SystemExit(str(refused)) from None
