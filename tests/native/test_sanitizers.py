"""The engine without Python, built with sanitizers: data races, and a fuzzer of what building an engine checks."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from attacks.mutations import ALLOWED_MEMORY, ALLOWED_WORK, bases, mutated
from attacks.test_mutations import FUZZ_SECONDS
from engine_calls import FUNCTIONS, METHODS, calls_of, seeds
from support.engine_program import NATIVE, link

from biper.errors import ModelFormatError
from biper.runtime.program import Program
from biper.runtime.reader import read_program

HERE = Path(__file__).parent
RACE_SECONDS = int(os.environ.get("BIPER_RACE_SECONDS", "600"))
"""How long threads share engines under the thread sanitizer."""


def programs(count: int) -> list[Program]:
    """The small valid files of the gallery, and those of their mutations that are valid."""
    found = [read_program(container.sealed()) for container in bases()]
    for seed in range(count):
        try:
            blob = mutated(random.Random(seed))
            found.append(read_program(blob, max_memory=ALLOWED_MEMORY, max_work=ALLOWED_WORK))
        except ModelFormatError:
            continue
    return found


def test_calls_of_every_method_are_written_for_the_fuzzer() -> None:
    """The seeds of the fuzzer have every method, by the numbers that fuzz_engine.cc gives them."""
    source = (HERE / "fuzz_engine.cc").read_text()
    for number, method in enumerate(METHODS):
        case = rf"case {number}:" if number < len(METHODS) - 1 else "default:"
        assert re.search(rf"{case}(?:(?!case \d).)*engine\.{method}\(", source, re.DOTALL), method
    listed = re.search(r"kFunctions\[\] = \{(.*?)\};", source, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r'"(\w+)"', listed[1])) == FUNCTIONS
    known = set(re.findall(r'entry\("(\w+)"', (NATIVE / "kernels/float_loops.h").read_text()))
    assert known == set(FUNCTIONS) - {"other"}
    written = seeds(programs(0))
    assert len(written) > 40
    assert calls_of(programs(0)[0])[:12] == b"".join(n.to_bytes(4, "little") for n in programs(0)[0].input_shape)


@pytest.mark.slow
def test_threads_share_engines_without_a_data_race(tmp_path: Path) -> None:
    sanitize = ["-fsanitize=thread"]
    program = link(tmp_path, HERE / "race_threads.cc", "g++", sanitize, sanitize)
    done = subprocess.run([program, str(RACE_SECONDS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:5000]
    assert re.fullmatch(r"\d+ calls, 0 differ\n", done.stdout), done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_fuzzed_calls_are_refused_or_run_within_their_arrays(tmp_path: Path) -> None:
    """A coverage-guided fuzzer changes the calls that build an engine; the sanitizers watch it."""
    instrument = ["-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all"]
    program = link(tmp_path, HERE / "fuzz_engine.cc", "clang++", instrument, ["-fsanitize=fuzzer,address,undefined"])
    (tmp_path / "seeds").mkdir()
    (tmp_path / "corpus").mkdir()
    for number, seed in enumerate(seeds(programs(2000))):
        (tmp_path / "seeds" / str(number)).write_bytes(seed)
    options = [f"-max_total_time={FUZZ_SECONDS}", "-timeout=25", "-malloc_limit_mb=600", "-max_len=4096"]
    done = subprocess.run([program, *options, "corpus", "seeds"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert len(list((tmp_path / "corpus").iterdir())) > 100
