"""Time the C of a packed model on this machine, beside the engine's scalar kernels.

    taskset -c 0 python benchmarks/c_on_host.py cifar10-resnet20

Both forms of C are compiled by gcc with ``-O2``, and with ``-O2 -mpopcnt``, which counts bits by an instruction. One
image is computed at a time, on one thread; the programs take turns. The rows have the fastest and the median call, and
the median as a multiple of that of the scalar kernels.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from records import tables
from records.rows import CRow

from biper.cli.paths import model_file
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.runtime.timing import interleaved
from biper.targets.c.source import CSource, c_source
from biper.targets.c.to_fixed_point import to_fixed_point

FLAGS = ("-O2", "-O2 -mpopcnt")


def main() -> None:
    """Print a row for the engine, and one for each form and each set of flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a packed file of pictures, or the name of one that comes with biper")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to take for all programs together")
    options = parser.parse_args()
    print(tables.c(measure(options.model, options.seconds)))


def measure(model: str, seconds: float) -> list[CRow]:
    """Time the engine, each form of C and each set of flags on one packed file; ``seconds`` is for all together."""
    program = read_program(model_file(model))
    engine = Engine(program, "scalar")
    image = np.zeros((1, *program.input_shape), np.float32)
    calls: dict[str, Callable[[], object]] = {"engine, scalar kernels": lambda: engine(image)}
    forms = {"float32": c_source(program), "integer-only": c_source(program, fixed=to_fixed_point(program))}
    with tempfile.TemporaryDirectory() as folder:
        for form, source in forms.items():
            for flags in FLAGS:
                name = f"C, {form}, {flags}"
                calls[name] = compiled(source, program, Path(folder) / str(len(calls)), flags)
        times = dict(zip(calls, interleaved(list(calls.values()), seconds).seconds, strict=True))
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    of_engine = next(iter(medians.values()))
    return [
        CRow(network=model, program=name, fastest=min(times[name]), median=median, ratio=median / of_engine)
        for name, median in medians.items()
    ]


def compiled(source: CSource, program: Program, folder: Path, flags: str) -> Callable[[], None]:
    """A call of the C function for one image of zeros, compiled by gcc."""
    folder.mkdir()
    (folder / "model.h").write_text(source.header)
    (folder / "model.c").write_text(source.source)
    library = folder / "model.so"
    subprocess.run(
        ["gcc", "-std=c99", *flags.split(), "-shared", "-fPIC", "-o", library, folder / "model.c", "-lm"], check=True
    )
    run = ctypes.CDLL(str(library)).model_run
    pixels = (ctypes.c_uint8 * int(np.prod(program.input_shape)))()
    results = (ctypes.c_float * int(np.prod(program.output_shape)))()
    return lambda: run(pixels, results)


if __name__ == "__main__":
    main()
