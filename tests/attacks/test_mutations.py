"""Mutated packed files: re-sealed mutations of their structure, changed bytes, and truncations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from attacks.packed_base import images

from biper.errors import ModelFormatError
from biper.runtime.model import Model
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

MANY = int(os.environ.get("BIPER_MUTATIONS", "1000000"))
"""How many mutations the slow tier runs, on all cores."""

FUZZ_SECONDS = int(os.environ.get("BIPER_FUZZ_SECONDS", "300"))
"""How long a fuzzer runs."""

MEBIBYTES = 48
"""How much more memory a process may take for a file than before: the budget is twice the file (at most 55 kB) and
16 MiB, and the rest is what the interpreter and the allocator keep."""


def _mutations(first: int, count: int) -> dict:
    command = [sys.executable, str(Path(__file__).with_name("run_mutations.py")), str(first), str(count)]
    limit = str(MEBIBYTES if sys.platform == "linux" else 0)
    if limit == "0":
        pytest.skip("memory is limited by setrlimit, and measured in /proc")
    run = subprocess.run([*command, limit], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    result: dict = json.loads(run.stdout)
    return result


@pytest.mark.parametrize("count", [5_000, pytest.param(MANY, marks=pytest.mark.slow)])
def test_mutated_structures_are_refused_or_computed_within_their_budget(count: int) -> None:
    """Only the promised errors, under two seconds each, and within the memory of the budget."""
    parts = min(os.cpu_count() or 1, max(1, count // 5_000))
    with ThreadPoolExecutor(parts) as pool:
        results = list(pool.map(lambda part: _mutations(part * count // parts, count // parts), range(parts)))
    for result in results:
        assert not result["faults"]
        assert result["slowest"] < 2, f"seed {result['slowest_seed']}"
    assert sum(result["ran"] for result in results) > count / 10
    assert sum(result["refused"] for result in results) > count / 4


@pytest.mark.slow
def test_a_fuzzer_of_the_reader_finds_nothing(tmp_path: Path) -> None:
    """Coverage-guided, from the small valid files of the gallery."""
    pytest.importorskip("atheris", reason="atheris is not installed")
    script = str(Path(__file__).with_name("fuzz_reader.py"))
    options = [f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]
    run = subprocess.run([sys.executable, script, "corpus", *options], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]


def test_every_truncation_is_refused() -> None:
    blob = images().sealed()
    for length in range(len(blob)):
        for verify in (True, False):
            with pytest.raises(ModelFormatError):
                read_program(blob[:length], verify=verify)


def test_changed_bytes_are_refused_or_computed() -> None:
    """4,000 files with one to four changed bytes: their checksum refuses all. Where it is not compared, a file is
    refused, or the engine computes from it what the reference computes."""
    random = np.random.Generator(np.random.PCG64(0))
    packed = images().sealed()
    refused = computed = 0
    header = 8 + int.from_bytes(packed[:8], "little")
    for _ in range(4_000):
        blob = bytearray(packed)
        first, last = ((0, header), (header, len(blob)), (0, len(blob)))[random.integers(3)]
        for _ in range(random.integers(1, 5)):
            blob[random.integers(first, last)] = random.integers(0, 256)
        if bytes(blob) == packed:
            continue
        with pytest.raises(ModelFormatError):
            read_program(bytes(blob))
        try:
            model = Model.load(bytes(blob), verify=False)
        except ModelFormatError:
            refused += 1
            continue
        image = random.standard_normal((1, *model.program.input_shape)).astype(np.float32)
        with np.errstate(all="ignore"):
            outputs, values = model(image), run_reference(model.program, image)
            largest = max(float(np.abs(value).max()) for value in values.values() if value.dtype == np.float32)
        if (
            largest < 1e6
        ):  # neither infinite nor NaN; sums of large values may cancel, so that errors are shares of them
            expected = values[model.program.output].reshape(outputs.shape)
            np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5 * max(largest, 1))
            computed += 1
    assert refused > 1500
    assert computed > 800
