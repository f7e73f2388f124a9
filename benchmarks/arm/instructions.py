"""Count the instructions that a binary layer takes on Arm with NEON and without, and compare the results.

    python benchmarks/arm/instructions.py

The program runs in an emulator. The time of an emulator says nothing about a processor, but the number of instructions
does. It needs g++-aarch64-linux-gnu, gcc, and QEMU's user emulation with plugins (Debian: qemu-user).
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {"avx2", "avx512", "loops_avx2", "loops_avx512", "dotprod"}
"""The kernels that are not compiled for Arm with the flags of the others."""
COMPILER = "aarch64-linux-gnu-g++"
FLAGS = [
    "-std=c++20",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=off",
    "-static",
    "-pthread",
    f"-I{ROOT / 'native'}",
]
LAYERS = [(56, 64), (28, 128), (14, 256), (7, 512)]


def main() -> None:
    """Build the program, count its instructions for each layer, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        print("| layer | products | scalar, instructions | NEON | ratio | products an instruction |")
        print("| --- | --- | --- | --- | --- | --- |")
        for size, channels in LAYERS:
            scalar, neon = (count(folder, chosen, size, channels) for chosen in ("scalar", "neon"))
            products = size * size * channels * channels * 9
            print(
                f"| {size}x{size}x{channels} | {products / 1e6:.0f} M | {scalar / 1e6:.1f} M | {neon / 1e6:.2f} M "
                f"| {scalar / neon:.1f} | {products / neon:.1f} |"
            )


def build(folder: Path) -> None:
    """Build the program for Arm, and the plugin of the emulator for this machine."""
    here = Path(__file__).parent
    link(folder, here / "layer.cc", folder / "layer")
    plugin = ["gcc", "-O2", "-shared", "-fPIC", "-o", folder / "count.so", here / "count_instructions.c"]
    subprocess.run(plugin, check=True)


def link(folder: Path, main_file: Path, program: Path) -> None:
    """Build a program for Arm from a file with a main function and the engine."""
    native, dotprod = ROOT / "native", folder / "dotprod.o"
    alone = ["-march=armv8.2-a+dotprod", "-c", "-o", dotprod, native / "kernels/dotprod.cc"]
    subprocess.run([COMPILER, *FLAGS, *alone], check=True)
    folders = (native / name for name in ("common", "engine", "kernels"))
    sources = [source for part in folders for source in sorted(part.glob("*.cc")) if source.stem not in OTHERS]
    subprocess.run([COMPILER, *FLAGS, "-o", program, main_file, *sources, dotprod], check=True)


def count(folder: Path, instruction_set: str, size: int, channels: int) -> float:
    """Count the instructions of one run of the layer alone.

    This is the difference between three runs and one, with the layer and without, so that start-up cancels out.
    """
    run = ["qemu-aarch64", "-plugin", folder / "count.so", folder / "layer", instruction_set, str(size), str(channels)]
    total, results = {}, {}
    for layer in (0, 1):
        for runs in (1, 3):
            done = subprocess.run([*run, str(layer), str(runs)], capture_output=True, text=True, check=True)
            total[layer, runs] = int(done.stderr.split()[1])
            results[layer, runs] = done.stdout
    check(size, channels, results[1, 1])
    return (total[1, 3] - total[1, 1] - total[0, 3] + total[0, 1]) / 2


_seen: dict[tuple[int, int], str] = {}


def check(size: int, channels: int, result: str) -> None:
    """Exit unless both instruction sets give the same result for a layer."""
    if _seen.setdefault((size, channels), result) != result:
        raise SystemExit(f"{size}x{size}x{channels}: the results differ")


if __name__ == "__main__":
    main()
