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

from biper.runtime import Model

CALLS = 100
ROUNDS = 20


def main(build: str, path: str) -> None:
    """Time both and print a table."""
    here = Path(__file__).resolve().parent
    model = Model.load(path)
    channels, height, width = model.program.input_shape
    size = channels * height * width
    pixels = (np.arange(size) * 37 % 256).astype(np.uint8).reshape(1, height, width, channels)
    times: dict[str, list[float]] = {"libbiper": [], "Model": []}
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/time_calls"
        include = f"-I{here.parents[1] / 'native/capi'}"
        flags = ["-O2", "-std=c99", include, f"-L{build}", f"-Wl,-rpath,{Path(build).resolve()}", "-lbiper"]
        subprocess.run(["cc", str(here / "time_calls.c"), "-o", program, *flags], check=True)
        for _ in range(ROUNDS):
            done = subprocess.run([program, path, str(CALLS)], check=True, capture_output=True, text=True)
            times["libbiper"] += map(float, done.stdout.split())
            for _ in range(CALLS):
                start = time.perf_counter()
                model(pixels)
                times["Model"].append((time.perf_counter() - start) * 1e6)
    for name, values in times.items():
        print(f"{name:9} fastest {min(values):8.1f} us   median {statistics.median(values):8.1f} us")


if __name__ == "__main__":
    main(*sys.argv[1:])
