"""Fixtures of all tests: a printed seed, real data where it is available, and the command as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from biper.runtime.cpu import usable_cores

SEED = int(os.environ.get("BIPER_TEST_SEED", "0"))
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy one too: no property test fails because it took long


def pytest_report_header() -> str:
    return f"seed of all tests: {SEED} (set BIPER_TEST_SEED for another); torch threads: {torch.get_num_threads()}"


def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Share the cores between the processes that run tests, before they start: each computes with its part of them."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // len(specs))))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(SEED)


@pytest.fixture
def cifar_dir() -> Path:
    """The folder that contains the real CIFAR-10 files; the test is skipped if they are not there."""
    if not (DATA / "cifar-10-batches-bin").is_dir():
        pytest.skip(f"the real CIFAR-10 files are not in {DATA}")
    return DATA


@pytest.fixture
def imagenet_sample() -> Path:
    """A folder with a hundred photographs of ImageNet, one for each of a hundred classes; skips if it is not there."""
    if not (DATA / "imagenet-sample").is_dir():
        pytest.skip(f"the sample of ImageNet is not in {DATA}")
    return DATA / "imagenet-sample"


@pytest.fixture
def timeseries() -> Path:
    """A folder with sets of signals of the UCR / UEA archive; the test is skipped if they are not there."""
    if not (DATA / "timeseries").is_dir():
        pytest.skip(f"the time series are not in {DATA}")
    return DATA / "timeseries"


Biper = Callable[..., subprocess.CompletedProcess[str]]


def biper_command(*arguments: str) -> list[str]:
    """The command line of a real biper process."""
    return [sys.executable, "-m", "biper", *arguments]


@pytest.fixture
def biper(tmp_path: Path) -> Biper:
    """Run the command in a fresh folder, as a real process: ``biper("train", "digits", expect=1)``."""

    def run(
        *arguments: str, expect: int = 0, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            biper_command(*arguments),
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert result.returncode == expect, result.stdout + result.stderr
        return result

    return run


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failed command, beside the JSON lines of epochs; fails if there is not exactly one."""
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
