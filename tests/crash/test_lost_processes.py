"""One of two processes of a run is killed: both stop with one line, or torchrun restarts them with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import SEED, biper_command, error_line

MINUTE = 60


def options(out: Path, scale: float) -> list[str]:
    fixed = ["--threads", "1", "--device", "cpu", "--json"]
    return ["train", "digits", "--out", str(out), "--scale-epochs", str(scale), *fixed]


def torchrun(*arguments: str, restarts: int = 0) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*start, f"--max-restarts={restarts}", "-m", "biper", *arguments]


@contextmanager
def started(command: list[str], out: Path, rows: int) -> Iterator[subprocess.Popen[str]]:
    """Start a run and wait until it has written this many rows of metrics."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        metrics = out / "metrics.jsonl"
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < rows:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        yield process
    finally:
        for worker in workers(process.pid).values():
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.communicate()


def workers(launcher: int) -> dict[int, int]:
    """The ids of the processes that a launcher started, by their rank."""
    found = {}
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        for child in children:
            rank = re.search(rb"(?:^|\0)RANK=(\d+)", Path(f"/proc/{child}/environ").read_bytes())
            if rank:
                found[int(rank[1])] = int(child)
    except FileNotFoundError:
        pass
    return found


def ended(process: subprocess.Popen[str], seconds: float = MINUTE) -> subprocess.CompletedProcess[str]:
    out, errors = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def finish(command: list[str], out: Path) -> str:
    """Run to the end, and return the hash of the final weights."""
    subprocess.run(command, check=True, capture_output=True, timeout=580)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def test_a_killed_process_stops_all_within_a_minute_with_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started(biper_command(*options(out, 1.0), "--devices", "2"), out, rows=1) as process:
        others = workers(process.pid)
        os.kill(others.pop(1), signal.SIGKILL)
        result = ended(process)
        assert not any(Path(f"/proc/{worker}").exists() for worker in others.values())
    assert result.returncode == 75
    line = error_line(result)
    assert "process 1 of 2 was killed by SIGKILL, and all others were stopped; continue from the last" in line
    assert line.endswith("with --resume")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_goes_on_by_itself_after_a_kill_and_ends_with_the_same_bits(tmp_path: Path, rank: int) -> None:
    scale = 0.2
    expected = finish(torchrun(*options(tmp_path / "whole", scale)), tmp_path / "whole")
    out = tmp_path / "killed"
    moments = random.Random(SEED + rank)
    with started(torchrun(*options(out, scale), restarts=1), out, rows=moments.randint(1, 10)) as process:
        time.sleep(moments.uniform(0, 1))
        os.kill(workers(process.pid)[rank], signal.SIGKILL)
        result = ended(process, 580)
    assert result.returncode == 0, result.stderr
    assert hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest() == expected
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in rows] == [(1, n) for n in range(1, 9)] + [
        (2, n) for n in range(1, 5)
    ]


@pytest.mark.slow
def test_without_restarts_torchrun_ends_within_a_minute_and_we_say_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started(torchrun(*options(out, 1.0)), out, rows=1) as process:
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        result = ended(process)
    assert result.returncode != 0
    ours = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1, result.stderr
    assert ours[0].startswith("error: another process of this run died")


@pytest.mark.slow
def test_ctrl_c_stops_all_saves_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    scale = 0.1
    whole = tmp_path / "whole"
    expected = finish(biper_command(*options(whole, scale), "--devices", "2"), whole)
    out = tmp_path / "stopped"
    command = biper_command(*options(out, scale), "--devices", "2")
    with started(command, out, rows=2) as process:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        result = ended(process)
    assert result.returncode == 130
    assert error_line(result).startswith("error: stopped after stage ")
    assert finish([*command, "--resume"], out) == expected


@pytest.mark.slow
def test_a_run_whose_launcher_is_killed_stops_and_saves(tmp_path: Path) -> None:
    """No launcher is left to stop the processes, and they must not write into a folder in which a new run continues."""
    out = tmp_path / "run"
    with started(biper_command(*options(out, 1.0), "--devices", "2"), out, rows=1) as process:
        orphans = workers(process.pid).values()
        process.kill()
        until = time.monotonic() + MINUTE
        while any(Path(f"/proc/{worker}").exists() for worker in orphans):
            assert time.monotonic() < until
            time.sleep(0.1)
        lines = ended(process).stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: stopped after stage 1 epoch ")


@pytest.mark.slow
def test_a_process_killed_on_one_machine_stops_the_other(tmp_path: Path) -> None:
    """Two launchers on one machine meet as two machines do; each prints one line."""
    out = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = biper_command(*options(out, 1.0), "--nodes", "2", "--rendezvous", f"localhost:{port}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other, started(command, out, 1) as process:
        launchers = {rank: launcher for launcher in (process, other) for rank in workers(launcher.pid)}
        os.kill(workers(launchers[1].pid)[1], signal.SIGKILL)
        lines = [error_line(ended(launchers[rank])) for rank in (1, 0)]
    assert "process 1 of 2 was killed by SIGKILL" in lines[0]
    assert "another machine" in lines[1] or "lost the connection" in lines[1]


@pytest.mark.slow
def test_two_processes_reach_the_accuracy_of_one(tmp_path: Path) -> None:
    accuracies = []
    for name, devices in (("one", []), ("two", ["--devices", "2"])):
        finish(biper_command(*options(tmp_path / name, 1.0), *devices), tmp_path / name)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        accuracies.append(summary["stage2"]["test_accuracy"])
    assert abs(accuracies[0] - accuracies[1]) <= 0.015, accuracies
    assert min(accuracies) >= 0.96
