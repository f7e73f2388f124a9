"""TensorBoard reads what a run writes for it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from biper.errors import CheckpointError
from biper.runs.events import EventLog
from biper.runs.folder import saving_into


def test_events_are_what_tensorboard_reads(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.close()
    assert not (tmp_path / "events").exists(), "a file was made before there was anything to write"
    log.write({"stage1/train_loss": 0.5, "stage1/flip_ratio/conv1": 0.25}, 1)
    log.write({"stage2/train_loss": 0.125}, 7)
    (file,) = (tmp_path / "events").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    first, *events = LegacyEventFileLoader(str(file)).Load()  # before the file is closed: each epoch is flushed
    assert first.file_version == "brain.Event:2"
    found = [(event.step, [(value.tag, value.simple_value) for value in event.summary.value]) for event in events]
    assert found == [
        (1, [("stage1/train_loss", 0.5), ("stage1/flip_ratio/conv1", 0.25)]),
        (7, [("stage2/train_loss", 0.125)]),
    ]
    log.close()


def test_only_errors_of_a_full_disk_become_those_of_a_checkpoint(tmp_path: Path) -> None:
    text = r"could not save .*metrics\.jsonl: No space left on device; earlier checkpoints are untouched"
    with pytest.raises(CheckpointError, match=text), saving_into(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "metrics.jsonl"))
    with pytest.raises(FileNotFoundError), saving_into(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file", "data")
