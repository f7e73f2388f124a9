from __future__ import annotations

import platform
from pathlib import Path

import pytest

from biper import _native
from biper.runtime.cpu import instruction_sets

# Our name and Linux's, oldest first.
NAMES = {
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "avx": "avx",
    "fma": "fma",
    "bmi2": "bmi2",
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512dq": "avx512dq",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512vnni": "avx512_vnni",
    "gfni": "gfni",
    "avx512bf16": "avx512_bf16",
    "amxtile": "amx_tile",
    "amxint8": "amx_int8",
    "amxbf16": "amx_bf16",
}


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="needs Linux x86-64")
def test_instruction_sets_are_those_that_linux_reports() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = set(line.split(":")[1].split())
    expected = [name for name, linux in NAMES.items() if linux in flags]
    assert _native.instruction_sets() == expected
    assert instruction_sets() == tuple(expected)
