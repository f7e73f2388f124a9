"""What a person sees while a run trains. The trainer calls these methods and knows nothing of terminals."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichBar


class Progress:
    """Shows nothing; the base of those that do."""

    def begin(self, total_steps: int, done_steps: int, name: str = "") -> None:
        """A run starts, or goes on after ``done_steps`` of its ``total_steps``; ``name`` begins its lines."""

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:
        """A training step is done: its images, and the epoch's mean loss and accuracy so far."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done and evaluated; ``row`` is what metrics.jsonl says of it."""

    def message(self, text: str) -> None:
        """Something worth a line happened."""

    def end(self) -> None:
        """The run is over, or stopped."""


class RichProgress(Progress):
    """A bar with images/s, loss, accuracy and time left, and a line an epoch."""

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

    def epoch(self, row: dict[str, Any]) -> None:
        scores = "  ".join(
            f"{split} {row[f'{split}_accuracy']:.2%}"
            for split in ("train", "fit", "held_out", "test")
            if f"{split}_accuracy" in row
        )
        self.console.print(
            f"{self._name}stage {row['stage']} epoch {row['epoch']:>3}/{row['epochs']}  loss {row['train_loss']:.4f}  "
            f"accuracy: {scores}  {row['images_per_second']:,.0f} images/s  {self._time_left()} left",
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
