"""A run is killed in the middle of an operation on its files, or at a random moment, and resumed: the same bits."""

from __future__ import annotations

import itertools
import random
import signal
import time
from pathlib import Path

import pytest
from conftest import SEED
from support.disk import Step
from support.small_runs import RUN, newest_checkpoint, run, watched, weights_hash

from biper.runs.lock import LOCK_FILE

EPOCHS = 5


@pytest.mark.parametrize(("kills", "moments"), [(3, 2), pytest.param(120, 80, marks=pytest.mark.slow)])
def test_kills_leave_no_trace(tmp_path: Path, kills: int, moments: int) -> None:
    """Kills in operations: the write of a checkpoint, and others that are spread over the run. A write that is
    interrupted has written a half. Then kills at random moments."""
    choice = random.Random(SEED)
    started = time.monotonic()
    steps, failed = watched(tmp_path)
    seconds = time.monotonic() - started
    assert failed is None
    expected = weights_hash(tmp_path)
    begins: list[int | float] = [first_save(steps)]
    edges = [number * len(steps) // (kills - 1) for number in range(kills)]
    # Where there are fewer operations than kills, some are interrupted more than once.
    begins += [choice.randrange(low, max(high, low + 1)) for low, high in itertools.pairwise(edges)]
    begins += [choice.uniform(0.1, 0.9) * seconds for _ in range(moments)]
    for number, begin in enumerate(begins):
        root = tmp_path / str(number)
        root.mkdir()
        if isinstance(begin, int):
            assert watched(root, begin) == -signal.SIGKILL
        else:
            assert run(root, kill_after=begin) in (-signal.SIGKILL, None)  # None: it was faster than the whole run
        newest_checkpoint(root)
        was_finished = (root / RUN / "summary.json").exists()
        assert run(root, resume=True) is None
        assert weights_hash(root) == expected, f"kill {number}, at {begin}, left a trace"
        rows = (root / RUN / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == EPOCHS, "an epoch that was done again stands once in metrics.jsonl"
        # A run that was killed after its end is not begun again; the file of its lock, which is not locked, may stay.
        left = {path.name for path in (root / RUN).rglob(".*")}
        assert left <= ({LOCK_FILE} if was_finished else set()), "files of the killed process are left"


def first_save(steps: list[Step]) -> int:
    """The number of the operation that writes the first checkpoint."""
    return next(i for i, step in enumerate(steps) if step.kind == "write" and f"{RUN}/checkpoints/" in step.path)
