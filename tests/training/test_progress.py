"""What is said while a run trains: its banner, its speed, the time that it will take, and lines of JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from biper import load_recipe, train
from biper.measure.monitor import LayerMeasures
from biper.runs.records import MetricsRow, SplitScore
from biper.training import progress as module
from biper.training.progress import JsonProgress, Progress, RichProgress

ROW = MetricsRow(1, 1, 9, 1.5, 0.5, 0.1, 9.0, SplitScore("test", 1.0, 0.5), LayerMeasures())


class Clock:
    """Stands for the clock of the progress."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def shown() -> tuple[RichProgress, io.StringIO]:
    text = io.StringIO()
    return RichProgress(Console(file=text, width=200)), text


def test_short_epochs_have_a_speed(clock: Clock) -> None:
    """Epochs of a few steps, each far shorter than a second, with evaluations between them that do not count."""
    progress, _ = shown()
    progress.begin(100, 0)
    for _ in range(5):
        for _ in range(4):
            clock.now += 0.01
            progress.step("stage 1", 32, 1.0, 0.5)
        clock.now += 7
        progress.epoch(ROW)
    assert progress._speed.text == "3,200 images/s"


def test_the_speed_is_that_of_the_last_second(clock: Clock) -> None:
    progress, _ = shown()
    progress.begin(1000, 0)
    for seconds in [0.01] * 150 + [0.5] * 4:
        clock.now += seconds
        progress.step("stage 1", 10, 1.0, 0.5)
    assert progress._speed.text == "20 images/s"


def test_the_expected_time_is_said_once_if_the_first_epoch_is_long(clock: Clock) -> None:
    progress, text = shown()
    progress.begin(100, 0)
    for _ in range(25):
        clock.now += 1
        progress.step("stage 1", 10, 1.0, 0.5)
    assert text.getvalue().count("expected time: ") == 1
    assert "expected time: 0:01:30, at 10 images/s" in text.getvalue()


def test_a_short_epoch_says_the_time_left_itself(clock: Clock) -> None:
    progress, text = shown()
    progress.begin(100, 0)
    for _ in range(25):
        clock.now += 1
        progress.step("stage 1", 10, 1.0, 0.5)
        progress.epoch(ROW)
    assert "expected time: " not in text.getvalue()
    assert "0:01:39 left" in text.getvalue()


def test_json_is_a_line_an_epoch(tmp_path: Path) -> None:
    stream = io.StringIO()
    changes = ["stage1.epochs=1", "stage2.epochs=1", "teacher.epochs=2", "teacher.learning_rate=0.1"]
    train(load_recipe("digits", changes), tmp_path, device="cpu", workers=0, progress=JsonProgress(stream))
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(row.pop("teacher", False), row["stage"]) for row in rows] == [(True, 1), (True, 1), (False, 1), (False, 2)]
    assert rows[2:] == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_the_banner_says_what_is_trained_where(tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Progress):
        def message(self, text: str) -> None:
            said.append(text)

    recipe = load_recipe("digits", ["stage1.epochs=1", "stage2.epochs=1"])
    train(recipe, tmp_path / "run", device="cpu", workers=0, progress=Listening())
    network, computation = said[:2]
    assert network == (
        f"{tmp_path / 'run'}: digits_cnn W1A1 on digits, 1,437 images to train on, 360 to test; 1 + 1 epochs, "
        f"batches of {recipe.data.batch_size}"
    )
    assert computation.startswith("float32 on cpu")
