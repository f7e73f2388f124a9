from __future__ import annotations

import platform
from pathlib import Path

import pytest

from biper import _native
from biper.runtime.cpu import instruction_sets

LINUX_NAMES = {"sse4.2": "sse4_2", "avx512vpopcntdq": "avx512_vpopcntdq", "avx512vnni": "avx512_vnni"}
KNOWN = ("sse4.2", "popcnt", "avx", "fma", "avx2", "avx512f", "avx512bw", "avx512vl")
NEWER = ("avx512vpopcntdq", "avx512vnni", "avx512bf16")


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="needs Linux x86-64")
def test_instruction_sets_are_those_that_linux_reports() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = set(line.split(":")[1].split()) | ({"avx512_bf16"} & set(line.split()))
    names = LINUX_NAMES | {"avx512bf16": "avx512_bf16"}
    expected = [name for name in KNOWN + NEWER if names.get(name, name) in flags]
    assert _native.instruction_sets() == expected
    assert instruction_sets() == tuple(expected)
