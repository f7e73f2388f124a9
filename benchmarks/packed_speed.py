"""Times packed networks: beside other engines, with each instruction set and number of threads, and by operation.

    taskset -c 0 python benchmarks/packed_speed.py engines --seconds 2
    python benchmarks/packed_speed.py packed
    taskset -c 0 python benchmarks/packed_speed.py operations

The networks are those of `benchmarks/packed_networks.py`, which this script writes into a temporary folder; ResNet-20
is the trained one that comes with biper. The measurements are those of `biper bench FILE --against ...`, of
`biper bench FILE` and of `biper bench FILE --profile`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import packed_networks
from records import tables
from records.rows import EngineRow, OperationRow, PackedRow

from biper.cli.paths import model_file
from biper.errors import MissingDependencyError
from biper.peers.engines import PEERS, compare_engines, load_variants
from biper.runtime.bench import OperationTime, bench
from biper.runtime.cpu import usable_processors
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reader import read_program

RESNET20, RESNET18 = "CIFAR ResNet-20 (trained)", "CIFAR ResNet-18"
LARGE, LARGE_INT8 = "ResNet-18, 224x224", "ResNet-18, 224x224, int8 float layers"
LARGE_BFLOAT16 = "ResNet-18, 224x224, bfloat16 float layers"
FILES = {
    RESNET18: "cifar-resnet18",
    LARGE: "imagenet-resnet18",
    LARGE_BFLOAT16: "imagenet-resnet18-bfloat16",
    LARGE_INT8: "imagenet-resnet18-int8",
}
"""The networks that are timed, and their names in `packed_networks.NETWORKS`; ResNet-20 comes with biper."""

COMPARED = ((RESNET20, 1), (RESNET20, 64), (RESNET18, 1), (LARGE, 1), (LARGE_BFLOAT16, 1), (LARGE_INT8, 1))
"""Networks and numbers of images that are timed beside other engines."""


@contextlib.contextmanager
def networks(names: Sequence[str]) -> Iterator[dict[str, Program]]:
    """The programs of these networks."""
    with tempfile.TemporaryDirectory() as folder:
        files = packed_networks.write(Path(folder), [FILES[name] for name in names if name in FILES])
        yield {
            name: read_program(files[FILES[name]] if name in FILES else model_file("cifar10-resnet20"))
            for name in dict.fromkeys(names)
        }


def installed_peers() -> tuple[list[str], dict[str, str]]:
    """The engines that can be timed here, and of the others why they cannot."""
    found, missing = [], {}
    for name in PEERS:
        try:
            load_variants(name)
        except MissingDependencyError as error:
            missing[name] = str(error)
        else:
            found.append(name)
    return found, missing


def measure_engines(
    seconds: float, compared: Sequence[tuple[str, int]] = COMPARED
) -> tuple[list[EngineRow], dict[str, str], dict[str, str]]:
    """Time networks beside other engines, each for about ``seconds``.

    Returns:
        The rows, what was left out and why, and the versions of the engines.
    """
    peers, left_out = installed_peers()
    rows: list[EngineRow] = []
    versions: dict[str, str] = {}
    with networks([name for name, _ in compared]) as programs:
        for network, batch in compared:
            comparison = compare_engines(programs[network], peers, batch=batch, seconds=seconds)
            versions |= comparison.versions
            for row in comparison.rows:
                if row.median_seconds is None or row.ratio is None:
                    left_out[f"{row.name} on {network}"] = row.refused or "it was not timed"
                    continue
                rows.append(
                    EngineRow(network=network, batch=batch, engine=row.name, median=row.median_seconds, ratio=row.ratio)
                )
    return rows, left_out, versions


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Let this process run on as many processors as it has threads, out of those that it may use now."""
    before = usable_processors()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, before[-threads:])
    yield
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, before)


def measure_packed(seconds: float) -> tuple[list[PackedRow], dict[str, str]]:
    """Time networks on biper's engine; returns the rows, and what was left out and why."""
    names = [RESNET20, LARGE, LARGE_INT8]
    rows: list[PackedRow] = []
    left_out = {}
    with networks(names) as programs:
        fastest = Engine(programs[RESNET20]).instruction_set
        ways = [(RESNET20, fastest, 1, 1), *((RESNET20, "avx2", 1, 1) for _ in range(fastest == "avx512"))]
        ways += [(RESNET20, fastest, 2, 64), (LARGE, fastest, 1, 1), (LARGE, fastest, 2, 1)]
        ways += [(LARGE_INT8, fastest, 1, 1), (LARGE_INT8, fastest, 2, 1)]
        for network, chosen, threads, batch in ways:
            if threads > len(usable_processors()):
                left_out[f"{network} with {threads} threads"] = "this process may use one processor"
                continue
            with pinned(threads):
                found = bench(programs[network], batch=batch, threads=threads, instruction_set=chosen, seconds=seconds)
            spent = sum(op.seconds for op in found.operations if op.binary_macs)
            rows.append(
                PackedRow(
                    network=network,
                    instruction_set=chosen,
                    threads=threads,
                    batch=batch,
                    median=found.median_seconds,
                    images_per_second=found.images_per_second,
                    share_of_peak=found.binary_macs / spent / found.peak_macs_per_second if threads == 1 else None,
                )
            )
    return rows, left_out


def measure_operations(seconds: float) -> list[OperationRow]:
    """Time the operations of ResNet-18 at 224x224 one by one, and group those of one kind."""
    with networks([LARGE]) as programs:
        program = programs[LARGE]
        times = bench(program, seconds=seconds).operations
    kinds: dict[tuple[str, tuple[int, ...], int], list[OperationTime]] = {}
    for op, spent in zip(program.operations, times, strict=True):
        macs = spent.binary_macs + spent.real_macs
        kinds.setdefault((op.operation.replace("_", " "), op.shape, macs), []).append(spent)
    rows = []
    for (operation, shape, work), found in kinds.items():
        seconds_of = [op.seconds for op in found if op.seconds > 0]
        if not seconds_of:  # views take no time
            continue
        rows.append(
            OperationRow(
                kind=f"{operation} to {'x'.join(map(str, shape))}",
                count=len(found),
                least=min(seconds_of),
                most=max(seconds_of),
                multiply_accumulates=work or None,
            )
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("engines", "packed", "operations"))
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to measure each row")
    options = parser.parse_args()
    left_out: dict[str, str] = {}
    if options.what == "engines":
        found, left_out, _ = measure_engines(options.seconds)
        print(tables.engines(found))
    elif options.what == "packed":
        rows, left_out = measure_packed(options.seconds)
        print(tables.packed(rows))
    else:
        print(tables.operations(measure_operations(options.seconds)))
    for name, why in left_out.items():
        print(f"{name}: left out: {why}")


if __name__ == "__main__":
    main()
