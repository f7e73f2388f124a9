"""The lock of a run folder, held and lost by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from biper.errors import RecipeError
from biper.runs.lock import LOCK_FILE, RunLock

HOLD = """
import sys, time
from pathlib import Path
from biper.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_refused_with_its_holder_and_gone_with_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        lock = RunLock(tmp_path)
        with pytest.raises(RecipeError, match=f"is in use, process {process.pid} trains there: .* another folder with"):
            lock.acquire()
        process.kill()
        process.wait()
    assert (tmp_path / LOCK_FILE).exists()
    lock.acquire()
    lock.acquire()
    with pytest.raises(RecipeError, match=f"process {os.getpid()} trains there"):
        RunLock(tmp_path).acquire()
    lock.release()
    lock.release()
    assert not (tmp_path / LOCK_FILE).exists()
    RunLock(tmp_path).acquire()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_process_neither_has_the_lock_nor_keeps_it(tmp_path: Path) -> None:
    """Decoding workers are forked, and may live a little longer than the process that trains."""
    lock = RunLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        with pytest.raises(RecipeError):
            RunLock(tmp_path).acquire()
        lock.release()
        RunLock(tmp_path).acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
