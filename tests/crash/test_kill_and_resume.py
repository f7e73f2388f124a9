"""A run that is killed and resumed ends with the same bits as an uninterrupted run."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from conftest import biper_command

Moment = Callable[[Path], bool]


TAUGHT = ("--set", "teacher.epochs=40", "--set", "teacher.learning_rate=0.1")


def command(out: Path, scale: float, *more: str) -> list[str]:
    options = [
        "--out",
        str(out),
        "--scale-epochs",
        str(scale),
        "--threads",
        "1",
        "--device",
        "cpu",
        "--resume",
        "--json",
    ]
    return biper_command("train", "digits", *options, *more)


def weights_hash(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def finish(out: Path, scale: float, *more: str) -> str:
    """Run to the end, and return the hash of the final weights."""
    subprocess.run(command(out, scale, *more), check=True, capture_output=True, timeout=600)
    return weights_hash(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The hash of an uninterrupted run at scale 0.1, by its further options; each such run is trained once."""
    return cache(lambda *more: finish(tmp_path_factory.mktemp("whole"), 0.1, *more))


def kill_when(moment: Moment, out: Path, scale: float, *more: str) -> bool:
    """Start a run and send SIGKILL when ``moment(out)`` is true; returns False if the run ended before."""
    process = subprocess.Popen(command(out, scale, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            if moment(out):
                os.kill(process.pid, signal.SIGKILL)
                break
        return process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def rows_written(count: int) -> Moment:
    """True when metrics.jsonl has this many rows; the checkpoint of that epoch may or may not have been written."""

    def moment(out: Path) -> bool:
        time.sleep(0.001)
        metrics = out / "metrics.jsonl"
        return metrics.exists() and metrics.read_bytes().count(b"\n") >= count

    return moment


def checkpoint_being_written(stage: int) -> Moment:
    """True while the temporary file of a checkpoint of this stage exists, which is only for milliseconds."""
    return lambda out: any((out / "checkpoints").glob(f".stage{stage}-*.tmp"))


def seconds_after_the_first_row(seconds: float) -> Moment:
    started: list[float] = []
    first = rows_written(1)

    def moment(out: Path) -> bool:
        if not started:
            if first(out):
                started.append(time.monotonic())
            return False
        time.sleep(0.001)
        return time.monotonic() - started[0] >= seconds

    return moment


@pytest.mark.slow
def test_three_kills_leave_no_trace(tmp_path: Path, whole: Callable[..., str]) -> None:
    """One run is killed in stage 1 while a checkpoint is written, in the middle of an epoch, and in stage 2."""
    scale = 0.1
    expected = whole()
    out = tmp_path / "killed"
    moments = [checkpoint_being_written(1), seconds_after_the_first_row(0.05), checkpoint_being_written(2)]
    assert all(kill_when(moment, out, scale) for moment in moments)
    assert not (out / "model.safetensors").exists()
    assert finish(out, scale) == expected
    rows = (out / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 6, "an epoch that was done again stands once in metrics.jsonl"


@pytest.mark.slow
def test_kills_of_a_teacher_and_of_its_student_leave_no_trace(tmp_path: Path, whole: Callable[..., str]) -> None:
    scale = 0.1
    expected = whole(*TAUGHT)
    out = tmp_path / "killed"
    first = checkpoint_being_written(1)
    assert kill_when(lambda out: first(out / "teacher"), out, scale, *TAUGHT)
    assert not (out / "teacher/summary.json").exists()
    assert kill_when(first, out, scale, *TAUGHT)
    taught = (out / "teacher/model.safetensors").stat().st_mtime_ns
    assert finish(out, scale, *TAUGHT) == expected
    assert (out / "teacher/model.safetensors").stat().st_mtime_ns == taught, "a complete teacher was trained again"


@pytest.mark.parametrize(
    ("number", "more"), [(signal.SIGINT, ()), (signal.SIGTERM, TAUGHT)], ids=["INT", "TERM, taught"]
)
def test_a_signal_stops_cleanly_and_says_how_to_resume(
    tmp_path: Path, number: signal.Signals, more: tuple[str, ...], whole: Callable[..., str]
) -> None:
    """With a teacher, the signal stops the training of the teacher, and the printed command continues the whole run."""
    scale = 0.1
    expected = whole(*more)
    out = tmp_path / "stopped"
    process = subprocess.Popen(command(out, scale, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    moment = seconds_after_the_first_row(0.1)
    while not moment(out / "teacher" if more else out):
        assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = [line for line in errors.splitlines() if not line.startswith("{")]  # those are of epochs
    assert line.startswith("error: stopped after " + ("the teacher's " if more else "") + "stage 1 epoch ")
    hint = re.search(r"--resume continues from there: biper (train .+)", line)
    assert hint
    assert hint[1] == f"train {out}/recipe.toml --out {out} --resume --device cpu --threads 1 --json"
    subprocess.run(biper_command(*hint[1].split()), check=True, capture_output=True, timeout=600)
    assert weights_hash(out) == expected
