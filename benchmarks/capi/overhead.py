"""One image at a time through libbiper and through `Model`: ``python benchmarks/capi/overhead.py BUILD MODEL``.

BUILD is the folder in which CMake has built libbiper. Both run the same engine on pixels with one thread. Rounds of a
hundred calls take turns; the fastest call and the median of each are printed, in microseconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # beside this script's folder

from records import tables
from records.rows import CallRow

from biper.runtime import Model

CALLS = 100
ROUNDS = 20


def measure(build: Path, name: str, path: Path, rounds: int = ROUNDS) -> CallRow:
    """Time both on the packed file ``path``, which the row calls ``name``; ``build`` is the folder of libbiper."""
    here = Path(__file__).resolve().parent
    model = Model.load(path)
    channels, height, width = model.program.input_shape
    size = channels * height * width
    pixels = (np.arange(size) * 37 % 256).astype(np.uint8).reshape(1, height, width, channels)
    of_c: list[float] = []
    of_python: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/time_calls"
        include = f"-I{here.parents[1] / 'native/capi'}"
        flags = ["-O2", "-std=c99", include, f"-L{build}", f"-Wl,-rpath,{build.resolve()}", "-lbiper"]
        subprocess.run(["cc", str(here / "time_calls.c"), "-o", program, *flags], check=True)
        for _ in range(rounds):
            done = subprocess.run([program, path, str(CALLS)], check=True, capture_output=True, text=True)
            of_c += (float(word) / 1e6 for word in done.stdout.split())
            for _ in range(CALLS):
                start = time.perf_counter()
                model(pixels)
                of_python.append(time.perf_counter() - start)
    return CallRow(
        network=name,
        libbiper_fastest=min(of_c),
        libbiper_median=statistics.median(of_c),
        model_fastest=min(of_python),
        model_median=statistics.median(of_python),
    )


if __name__ == "__main__":
    print(tables.calls([measure(Path(sys.argv[1]), Path(sys.argv[2]).stem, Path(sys.argv[2]))]))
