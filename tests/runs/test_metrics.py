"""metrics.jsonl of a resumed run, after somebody has removed, cut or changed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biper.measure.monitor import LayerMeasures
from biper.runs.folder import RunFolder
from biper.runs.metrics import MetricsLog
from biper.runs.records import MetricsRow, SplitScore

EPOCHS = [(1, 1), (1, 2), (2, 1)]


def written(folder: Path) -> tuple[MetricsLog, list[MetricsRow]]:
    """A log of three epochs."""
    log = MetricsLog(RunFolder(folder))
    rows = [
        MetricsRow(*where, 2, 1.5, 0.5, 0.1, 9.0, SplitScore("test", 1.0, 0.5), LayerMeasures()) for where in EPOCHS
    ]
    for row in rows:
        log.append(row)
    return log, rows


def damages(file: Path) -> list[bytes | None]:
    """What may stand in the file when a run is resumed; None for no file."""
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    return [None, b"", content[:100], content[:-1], lines[0], b"x" * len(content), b"".join([lines[1], lines[0]])]


def damage(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)


def test_a_damaged_file_is_restored_from_the_checkpoint(tmp_path: Path) -> None:
    log, rows = written(tmp_path)
    file, length = log.folder.metrics_file, len(log.content)
    for content in damages(file):
        damage(file, content)
        again = MetricsLog(log.folder)
        message = again.restore(log.state(), length, EPOCHS)
        assert message == f"{file} was missing or changed: its 3 rows are restored from the checkpoint"
        assert log.folder.read_metrics() == rows
        assert again.content == log.content


def test_rows_after_the_checkpoint_are_cut_without_a_word(tmp_path: Path) -> None:
    log, rows = written(tmp_path)
    state, length = log.state(), len(log.content)
    log.append(rows[0])
    assert MetricsLog(log.folder).restore(state, length, EPOCHS) is None
    assert log.folder.read_metrics() == rows
    assert MetricsLog(log.folder).restore({}, 0, []) is None
    assert log.folder.read_metrics() == []


def test_a_checkpoint_without_rows_keeps_those_that_are_valid_and_names_the_others(tmp_path: Path) -> None:
    log, rows = written(tmp_path)
    file, content = log.folder.metrics_file, log.content
    first, second, third = content.splitlines(keepends=True)
    assert MetricsLog(log.folder).restore({}, len(content), EPOCHS) is None
    for damaged, lost, kept in (
        (None, r"rows of 3 epochs are lost \(stage 1 epoch 1, stage 1 epoch 2, stage 2 epoch 1\)", []),
        (first + third[:20], r"2 epochs are lost \(stage 1 epoch 2, stage 2 epoch 1\)", rows[:1]),
        (b'{"stage": 1}\n' + second + third, r"1 epochs are lost \(stage 1 epoch 1\)", rows[1:]),
        (b"\xff" * 40 + b"\n" + first + second, r"1 epochs are lost \(stage 2 epoch 1\)", rows[:2]),
    ):
        damage(file, damaged)
        with pytest.warns(UserWarning, match=lost):
            MetricsLog(log.folder).restore({}, len(content), EPOCHS)
        assert log.folder.read_metrics() == kept


def test_a_file_that_is_removed_during_a_run_is_whole_after_the_next_epoch(tmp_path: Path) -> None:
    log, rows = written(tmp_path)
    for content in damages(log.folder.metrics_file):
        damage(log.folder.metrics_file, content)
        log.append(rows[2])
    assert [json.loads(line)["stage"] for line in log.content.splitlines()] == [1, 1, 2] + [2] * 7
    assert log.folder.metrics_file.read_bytes() == log.content
