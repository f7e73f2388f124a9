"""Signals to the decoding processes of a run, or to all of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import biper_command
from support.pictures import make_folder

from biper.runs.folder import RunFolder

CHANGES = ["data.image_size=32", "data.batch_size=6", "data.evaluate_on=test", "stage1.epochs=500"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "data" / "train", ("ant", "bee", "cat"), 6)
    make_folder(tmp_path / "data" / "val", ("ant", "bee", "cat"), 1, seed=500)
    return tmp_path / "data"


@contextmanager
def running(folder: Path, out: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A long run as a real process after its first epoch, and the ids of its decoding processes."""
    changes = [word for change in CHANGES for word in ("--set", change)]
    options = ["--data-dir", str(folder), "--out", str(out), "--workers", "2", "--threads", "1", "--device", "cpu"]
    command = biper_command("train", "imagenet-sample-short", *options, *changes)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not any((out / "checkpoints").glob("*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 4, "two for the training and two for the test images"
        yield process, [int(child) for child in children]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def test_a_decoding_process_that_is_killed_ends_the_run_with_one_line(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path / "run") as (process, children):
        os.kill(children[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: a decoding process failed (DataLoader worker")
    assert line.endswith("use fewer --workers, or 0")
    found = RunFolder(tmp_path / "run").checkpoints.load_newest()
    assert found is not None


@pytest.mark.parametrize("listening", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_stop_that_reaches_every_process_is_clean(folder: Path, tmp_path: Path, listening: bool) -> None:
    """A batch system sends such a signal. The run must also stop if nothing reads its output, so that writing fails."""
    with running(folder, tmp_path / "run") as (process, children):
        if not listening:
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
        os.killpg(process.pid, signal.SIGTERM)
        if listening:
            _, errors = process.communicate(timeout=120)
            assert errors.startswith("error: stopped after stage 1 epoch ")
            assert len(errors.splitlines()) == 1
        assert process.wait(timeout=120) == 130 or not listening
        assert not any(os.path.exists(f"/proc/{child}") for child in children)
