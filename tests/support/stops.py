"""Runs that stop between two steps, as after Ctrl-C or a signal of a scheduler."""

from __future__ import annotations

import os
import signal

from biper.training.progress import Progress


class StopsAt(Progress):
    """Sends this process a SIGTERM after a given number of steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
