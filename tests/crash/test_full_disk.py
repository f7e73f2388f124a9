"""The disk is full while a checkpoint is saved: the error is one line, and earlier checkpoints are still there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import biper_command, error_line

from biper.io.tensors import load_tensors

OPTIONS = ["--scale-epochs", "0.1", "--threads", "1", "--device", "cpu", "--json", "--resume"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1,400 kB, which can hold two checkpoints of the digits network but not three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(small_disk: Path, tmp_path: Path) -> None:
    out = small_disk / "run"
    command = biper_command("train", "digits", "--out", str(out), *OPTIONS)
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    line = error_line(result)
    assert "could not save" in line
    assert "No space left on device; earlier checkpoints are untouched" in line
    left = sorted((out / "checkpoints").iterdir())
    assert left, "no checkpoint was saved before the disk was full"
    for path in left:
        load_tensors(path)
    shutil.copytree(out, tmp_path / "moved")
    moved = biper_command("train", "digits", "--out", str(tmp_path / "moved"), *OPTIONS)
    subprocess.run(moved, check=True, capture_output=True, timeout=120)


def test_a_write_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    """The same without root: the process may write no file larger than 100 kB, and a checkpoint is larger."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = biper_command("train", "digits", "--out", str(tmp_path / "run"), *OPTIONS)
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=limit)
    assert result.returncode == 1
    assert "could not save" in error_line(result)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
