"""Showing the progress of a run. The trainer calls the methods of `Progress` and does not know who shows them."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichBar

from biper.runs.records import MetricsRow


class Progress:
    """Shows nothing. The base class of everything that shows the progress of a run."""

    def begin(self, total_steps: int, done_steps: int, name: str = "") -> None:
        """A run starts, or resumes after ``done_steps`` of its ``total_steps``; its lines begin with ``name``."""

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:
        """A training step is done. ``images`` is its number of images; the means are over the epoch so far."""

    def epoch(self, row: MetricsRow) -> None:
        """An epoch is done and evaluated."""

    def message(self, text: str) -> None:
        """Show a line of text."""

    def end(self) -> None:
        """The run has finished or stopped."""


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
        self._started = self._rate_started = time.monotonic()
        self._rate_images = 0
        self._rate = 0.0
        self._task = self._bar.add_task("starting", total=total_steps, completed=done_steps, status="")
        self._bar.start()

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:
        self._done += 1
        self._rate_images += images
        now = time.monotonic()
        if now - self._rate_started >= 1:
            self._rate = self._rate_images / (now - self._rate_started)
            self._rate_images, self._rate_started = 0, now
        status = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {self._rate:,.0f} images/s  {self._time_left()} left"
        if self._task is not None:
            self._bar.update(self._task, description=self._name + label, completed=self._done, status=status)

    def epoch(self, row: MetricsRow) -> None:
        scores = f"train {row.train_accuracy:.2%}  {row.score.split} {row.score.accuracy:.2%}"
        self.console.print(
            f"{self._name}stage {row.stage} epoch {row.epoch:>3}/{row.epochs}  loss {row.train_loss:.4f}  "
            f"accuracy: {scores}  {row.images_per_second:,.0f} images/s  {self._time_left()} left",
            highlight=False,
        )
        self._rate_images, self._rate_started = 0, time.monotonic()

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
