"""The engine for 64-bit Arm, cross-compiled and run in an emulator."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from support.compiled import require

ROOT = Path(__file__).parents[2]


def benchmark() -> ModuleType:
    """benchmarks/arm/instructions.py as a module."""
    spec = importlib.util.spec_from_file_location("instructions", ROOT / "benchmarks/arm/instructions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_neon_equals_scalar_on_thousands_of_shapes(tmp_path: Path) -> None:
    emulator = require("qemu-aarch64-static")
    require("aarch64-linux-gnu-g++")
    program = tmp_path / "compare"
    benchmark().link(tmp_path, ROOT / "tests/native/compare_kernels.cc", program)
    for name in ("neon", "dotprod"):
        done = subprocess.run([emulator, program, name, "3000", "1"], capture_output=True, text=True)
        counts = re.search(
            r"(\d+) sums, (\d+) thresholds, (\d+) int8, (\d+) real, (\d+) pools: 0 differ$", done.stdout.strip()
        )
        assert counts, done.stdout[-2000:] + done.stderr
        assert min(map(int, counts.groups())) > 400


@pytest.mark.slow
def test_neon_takes_a_fraction_of_the_instructions(tmp_path: Path) -> None:
    for tool in ("qemu-aarch64", "aarch64-linux-gnu-g++", "gcc"):
        require(tool)
    module = benchmark()
    module.build(tmp_path)
    scalar, neon = (module.count(tmp_path, name, 14, 256) for name in ("scalar", "neon"))
    assert scalar / neon > 40
