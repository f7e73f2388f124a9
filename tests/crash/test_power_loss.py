"""The power fails at every moment of a run: what is left is a valid earlier state, from which the run goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from conftest import SEED
from support.disk import Step
from support.power_loss import Tree, read_tree, states, write_tree
from support.small_runs import RUN, newest_checkpoint, run, watched, weights_hash


def saved_after(steps: list[Step], checkpoint: str = "") -> list[str]:
    """For each number of operations, the newest checkpoint that was safely written by then."""
    saved, renamed = [checkpoint], ""
    for step in steps:
        if step.kind == "rename" and step.other.startswith(f"{RUN}/checkpoints/"):
            renamed = Path(step.other).name
        elif step.kind == "sync folder" and step.path == f"{RUN}/checkpoints":
            checkpoint = max(checkpoint, renamed)
        saved.append(checkpoint)
    return saved


def record(folder: Path, kill: int | None = None) -> tuple[Tree, list[Step]]:
    """Train in a new folder, and record what is done; with ``kill``, what a run does that resumes after a kill.

    Returns:
        The files that were there before, and the operations.
    """
    folder.mkdir()
    if kill is not None:
        assert watched(folder, kill) == -9
    before = read_tree(folder)
    steps, failed = watched(folder, resume=kill is not None)
    assert failed is None
    return before, steps


@pytest.mark.parametrize(("runs", "resumed"), [(1, 1), pytest.param(20, 5, marks=pytest.mark.slow)])
def test_a_loss_of_power_leaves_a_valid_earlier_state(tmp_path: Path, runs: int, resumed: int) -> None:
    """The states after every operation, also with what was not synced lost. The first run is whole, each other resumes
    one that was killed. Some states of each run are resumed to the end."""
    choice = random.Random(SEED)
    expected, length = "", 0
    for number in range(runs):
        folder = tmp_path / f"run{number}"
        before, steps = record(folder, choice.randrange(10, length - 1) if number else None)
        expected, length = expected or weights_hash(folder), length or len(steps)
        assert weights_hash(folder) == expected
        saved = saved_after(steps, newest_checkpoint(write_tree(before, tmp_path / f"before{number}")))
        found = list(states(steps, before))
        whole = [tree for _, loss, tree in found if loss == "nothing"][-1]
        assert whole == read_tree(folder), "an operation was not recorded"
        assert len(found) > len(steps) or number, "a whole run has many states"
        chosen = set(choice.sample(range(len(found)), min(resumed, len(found))))
        for index, (done, loss, tree) in enumerate(found):
            root = write_tree(tree, tmp_path / f"state{number}-{index}")
            newest = newest_checkpoint(root)
            assert newest >= saved[done], f"after {done} operations, lost: {loss}"
            if index in chosen:
                assert run(root, resume=True) is None
                assert weights_hash(root) == expected, f"after {done} operations, lost: {loss}"
