"""The typed records of a run: the same bytes on disk as version 0.1, and one line for a corrupt file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biper.errors import CheckpointError
from biper.runs.folder import RunFolder
from biper.runs.records import RunSummary, SplitScore, StageResult, TeacherResult
from biper.runs.state import Position

RELEASED = Path(__file__).resolve().parents[1] / "data" / "released" / "0.1"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A copy of a finished run of version 0.1."""
    shutil.copytree(RELEASED / "finished", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def read(folder: RunFolder) -> RunSummary:
    summary = folder.read_summary()
    assert summary is not None
    return summary


def test_a_summary_of_version_0_1_is_read_and_written_with_the_same_bytes(folder: RunFolder) -> None:
    before = folder.summary_file.read_bytes()
    summary = read(folder)
    folder.summary_file.unlink()
    folder.write_summary(summary)
    assert folder.summary_file.read_bytes() == before


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_metrics_of_version_0_1_are_read_and_written_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    rows = RunFolder(RELEASED / name).read_metrics()
    copy = RunFolder(tmp_path)
    lengths = [copy.append_metrics(row) for row in rows]
    before = (RELEASED / name / "metrics.jsonl").read_bytes()
    assert copy.metrics_file.read_bytes() == before
    assert lengths[-1] == len(before)


def test_a_summary_is_read_by_attributes_and_as_in_version_0_1(folder: RunFolder) -> None:
    summary = read(folder)
    assert summary.final.score == SplitScore("test", summary["stage2"]["test_loss"], 0.925)
    assert summary["stage2"]["test_accuracy"] == 0.925
    assert summary.get("stage2", summary["stage1"]) == summary["stage2"]
    assert "teacher" not in summary
    assert dict(summary) == json.loads(folder.summary_file.read_text())
    row = folder.read_metrics()[-1]
    assert (row.stage, row.epoch, row["train_loss"]) == (2, 2, row.train_loss)


def test_a_teacher_and_images_that_are_fit_are_kept(folder: RunFolder) -> None:
    stage = StageResult(2, 1, SplitScore("fit", 0.5, 0.75), {})
    summary = replace(read(folder), stages=(stage,), teacher=TeacherResult("vgg_small", stage, 1.5))
    folder.write_summary(summary)
    assert read(folder) == summary
    document = json.loads(folder.summary_file.read_text())
    assert document["fit_images"] == 360
    assert list(document["teacher"]) == [
        "name",
        "epochs",
        "selected_epoch",
        "fit_loss",
        "fit_accuracy",
        "quantization_error",
        "seconds",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"summary\.json is corrupt: "),
        (lambda _: "[]", r"is corrupt: expected a JSON object, got \[\]"),
        (lambda _: "[" * 100_000, r"is corrupt: "),
        (lambda text: text.replace('"selection"', '"other"'), "expected a value for 'selection', found none"),
        (
            lambda text: text.replace('"seconds": ', '"seconds": true, "x": '),
            "expected a number for 'seconds', got True",
        ),
        (lambda text: text.replace('"stage1": {', '"stage1": 5, "x": {', 2), "expected an object for 'stage1', got 5"),
        (lambda text: text.replace("_accuracy", "_x"), "expected an accuracy"),
    ],
)
def test_a_corrupt_summary_is_one_line(folder: RunFolder, change: Any, message: str) -> None:
    folder.summary_file.write_text(change(folder.summary_file.read_text()))
    with pytest.raises(CheckpointError, match=message) as caught:
        folder.read_summary()
    assert "\n" not in str(caught.value)


def test_a_corrupt_row_of_metrics_is_named(folder: RunFolder) -> None:
    lines = folder.metrics_file.read_text().splitlines()
    lines[2] = lines[2].replace('"train_loss": ', '"train_loss": "much", "x": ')
    folder.metrics_file.write_text("\n".join(lines))
    with pytest.raises(CheckpointError, match=r"line 3 of .*metrics\.jsonl is corrupt: expected a number for 'train_l"):
        folder.read_metrics()
    folder.metrics_file.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is corrupt"):
        folder.read_metrics()


def test_a_position_is_read_back_as_it_was_written(folder: RunFolder) -> None:
    position = Position(stage=2, epoch=3, step=4, loss_sum=0.1, results=read(folder).stages[:1])
    document = json.loads(json.dumps(position.to_json()))
    assert list(document["results"]) == ["stage1"]
    assert Position.from_json(document) == position
    position.add_step(2.0, 3, 4)
    position.end_epoch()
    assert (position.epoch, position.step, position.loss_sum, position.images) == (4, 0, 0.0, 0)
    assert position.next_stage() == Position(stage=3, results=position.results)


def test_any_value_of_a_summary_that_is_of_another_kind_is_one_line(folder: RunFolder) -> None:
    """Each value in turn is replaced by one of each other kind; what is accepted can be written again."""
    whole = json.loads(folder.summary_file.read_text())
    for path in list(paths(whole)):
        for value in (None, [], {}, "x", -1, 1.5, True, 10**400, [[]]):
            document = json.loads(json.dumps(whole))
            table = document
            for key in path[:-1]:
                table = table[key]
            table[path[-1]] = value
            folder.summary_file.write_text(json.dumps(document))
            with suppress(CheckpointError):
                json.dumps(read(folder).to_json())


def paths(document: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all values, by their keys."""
    for key, value in document.items():
        yield (*before, key)
        if isinstance(value, dict) and key != "recipe":
            yield from paths(value, (*before, key))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"recipe": ' + "[" * 100_000, "NaN", "\x00", '"\\ud800"'])
def test_what_is_no_summary_is_one_line(text: str, folder: RunFolder) -> None:
    folder.summary_file.write_text(text)
    with pytest.raises(CheckpointError, match=r"summary\.json is corrupt: "):
        folder.read_summary()
    folder.summary_file.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"summary\.json is corrupt: "):
        folder.read_summary()
