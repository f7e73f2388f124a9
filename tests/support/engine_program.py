"""A C++ program that is linked to the engine, built with a sanitizer: no Python is in it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from biper.runtime.cpu import instruction_sets
from support.compiled import require

NATIVE = Path(__file__).parents[2] / "native"
WIDE = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
FLAGS = {
    "avx2": ["-mavx2", "-mfma"],
    "loops_avx2": ["-mavx2"],
    "avx512": [*WIDE, "-mavx512vpopcntdq", "-mavx512vnni", "-mfma", "-mpopcnt"],
    "loops_avx512": WIDE,
}
"""The instruction sets of kernels for x86-64, by the names of their files; other files have none of their own."""
OF_ARM = {"neon", "dotprod"}


def link(folder: Path, main: Path, compiler: str, sanitize: Sequence[str], link_with: Sequence[str]) -> Path:
    """Compile the engine and a program with it.

    Args:
        folder: where object files and the program are written.
        main: the source of the program.
        compiler: such as ``"clang++"``.
        sanitize: flags of the compiler that instrument the code.
        link_with: flags of the linker that go with them.

    Returns:
        The program.
    """
    require(compiler)
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the sources of the kernels are listed for x86-64")
    common = [compiler, "-std=c++20", "-g", "-ffp-contract=off", f"-I{NATIVE}"]
    sanitized = [*common, "-O1", *sanitize]
    commands = {main: sanitized}
    # Where this processor cannot run them, these kernels are only there to be linked: instrumenting them takes minutes.
    runs = "avx512vpopcntdq" in instruction_sets()
    for source in (path for part in ("common", "engine", "kernels") for path in sorted((NATIVE / part).glob("*.cc"))):
        if source.stem not in OF_ARM:
            flags = sanitized if runs or source.stem != "avx512" else [*common, "-O0"]
            commands[source] = [*flags, *FLAGS.get(source.stem, [])]
    objects = []
    for source, command in commands.items():
        objects.append(folder / f"{source.stem}.o")
        _run([*command, "-c", str(source), "-o", str(objects[-1])])
    program = folder / main.stem
    _run([compiler, *link_with, *map(str, objects), "-pthread", "-o", str(program)])
    return program


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
