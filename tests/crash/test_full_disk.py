"""The disk is full while a checkpoint is saved: the error is one line, and earlier checkpoints are still there."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SEED, biper_command, error_line
from support.disk import NEEDS_ROOM
from support.small_runs import newest_checkpoint, run, watched, weights_hash

from biper.errors import CheckpointError
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


@pytest.mark.slow
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


@pytest.mark.parametrize(("places", "resumed"), [(10, 2), pytest.param(200, 200, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_from_any_moment_on_is_one_line(tmp_path: Path, places: int, resumed: int) -> None:
    """A write that no longer fits has written a half. With room again, the run goes on to the same bits.

    A run has fewer operations that need room than the slow tier has places: some are taken in a resumed run.
    """
    choice = random.Random(SEED)
    steps, failed = watched(tmp_path)
    assert failed is None
    expected = weights_hash(tmp_path)
    needing = [number for number, step in enumerate(steps) if step.kind in NEEDS_ROOM]
    chosen = choice.sample(needing, places) if places < len(needing) else needing
    to_resume = set(choice.sample(chosen, min(resumed, len(chosen))))
    tried = 0
    while tried < places:
        for number in chosen[: places - tried]:
            root = tmp_path / str(tried)
            root.mkdir()
            if tried >= len(needing):
                assert watched(root, choice.randrange(20, len(steps))) == -signal.SIGKILL
            done, error = watched(root, number, "full", resume=tried >= len(needing))
            saved = [Path(step.other).name for step in done if step.kind == "rename" and "/checkpoints/" in step.other]
            if any(step.kind in NEEDS_ROOM for step in done[number:]):
                assert isinstance(error, CheckpointError), f"place {tried}, operation {number}: {error!r}"
                assert re.fullmatch(r"could not save .*: No space left on device; .* are untouched", str(error))
            assert newest_checkpoint(root) >= max(saved, default="")
            if number in to_resume:
                assert run(root, resume=True) is None
                assert weights_hash(root) == expected
            tried += 1


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
