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
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vpopcntdq", "-mavx512vnni", "-mfma"]


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
    commands = {main: sanitized, NATIVE / "kernels/avx2.cc": [*sanitized, *AVX2]}
    for source in [*NATIVE.glob("common/*.cc"), *NATIVE.glob("engine/*.cc")]:
        commands[source] = sanitized
    for name in ("choose", "row_transform", "scalar"):
        commands[NATIVE / f"kernels/{name}.cc"] = sanitized
    # Where this processor cannot run them, these kernels are only there to be linked: instrumenting them takes minutes.
    runs = "avx512vpopcntdq" in instruction_sets()
    commands[NATIVE / "kernels/avx512.cc"] = [*(sanitized if runs else [*common, "-O0"]), *AVX512, "-mpopcnt"]
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
