"""Showing the progress of a run. The trainer calls the methods of `Progress` and does not know who shows them."""

from __future__ import annotations

import json
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichBar

from biper.runs.records import MetricsRow

EXPECTED_AFTER_SECONDS = 10
"""After how many seconds of training the expected time of the whole run is said, if no epoch has ended before."""


class Progress:
    """Shows nothing. The base class of everything that shows the progress of a run."""

    def begin(self, total_steps: int, done_steps: int, name: str = "") -> None:
        """A run starts, or resumes after ``done_steps`` of its ``total_steps``; its lines begin with ``name``."""

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:
        """A training step is done. ``images`` is its number of images; the means are over the epoch so far.

        On a GPU the means are those that were read last, at most 100 steps ago.
        """

    def epoch(self, row: MetricsRow) -> None:
        """An epoch is done and evaluated."""

    def message(self, text: str) -> None:
        """Show a line of text."""

    def end(self) -> None:
        """The run has finished or stopped."""


class JsonProgress(Progress):
    """Writes a line of JSON for each epoch: the row of ``metrics.jsonl``, with ``"teacher": true`` for a teacher's.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_teacher = False

    def begin(self, total_steps: int, done_steps: int, name: str = "") -> None:  # noqa: ARG002
        self._is_teacher = bool(name)

    def epoch(self, row: MetricsRow) -> None:
        line = row.to_json() | ({"teacher": True} if self._is_teacher else {})
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


class _Speed:
    """Images per second of training, about the last second of it; pauses between epochs do not count."""

    def __init__(self) -> None:
        self._images, self._seconds = 0, 0.0
        self._before: float | None = None
        self._rate = 0.0

    def add(self, images: int, now: float) -> None:
        """A step ended. The time of the first step after a pause is not known, and its images do not count."""
        if self._before is not None:
            self._images += images
            self._seconds += now - self._before
        self._before = now
        if self._seconds > 0:
            self._rate = self._images / self._seconds
        if self._seconds >= 1:
            self._images, self._seconds = 0, 0.0

    def pause(self) -> None:
        """Training pauses until the next step."""
        self._before = None

    @property
    def text(self) -> str:
        """The speed for people; dots as long as it is not known."""
        return f"{self._rate:,.0f} images/s" if self._rate else "... images/s"


class RichProgress(Progress):
    """Shows a bar with loss, accuracy, images per second and the time left, and one line for each epoch.

    Args:
        console: where to print; the bar is shown only on a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[status]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def begin(self, total_steps: int, done_steps: int, name: str = "") -> None:
        self._name = name
        self._total, self._first, self._done = total_steps, done_steps, done_steps
        self._started = time.monotonic()
        self._speed = _Speed()
        self._expected = False
        self._task = self._bar.add_task("starting", total=total_steps, completed=done_steps, status="")
        self._bar.start()

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:
        self._done += 1
        self._speed.add(images, time.monotonic())
        if not self._expected and time.monotonic() - self._started >= EXPECTED_AFTER_SECONDS:
            self._expected = True
            self.message(f"{self._name}expected time: {self._time_left()}, at {self._speed.text}")
        status = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {self._speed.text}  {self._time_left()} left"
        if self._task is not None:
            self._bar.update(self._task, description=self._name + label, completed=self._done, status=status)

    def epoch(self, row: MetricsRow) -> None:
        scores = f"train {row.train_accuracy:.2%}  {row.score.split} {row.score.accuracy:.2%}"
        self.console.print(
            f"{self._name}stage {row.stage} epoch {row.epoch:>3}/{row.epochs}  loss {row.train_loss:.4f}  "
            f"accuracy: {scores}  {row.images_per_second:,.0f} images/s  {self._time_left()} left",
            highlight=False,
        )
        self._speed.pause()
        self._expected = True

    def message(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def end(self) -> None:
        self._bar.stop()

    def _time_left(self) -> str:
        done = self._done - self._first
        if done == 0:
            return "?"
        seconds = (time.monotonic() - self._started) / done * (self._total - self._done)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"
