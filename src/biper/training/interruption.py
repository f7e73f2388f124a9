"""Stopping a run between two steps, on a signal or at a given time."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """A context in which SIGINT (Ctrl-C), SIGTERM and SIGHUP (a lost terminal) request a stop.

    The training loop reads `requested` at each step. SIGHUP stays ignored under ``nohup``.

    A second SIGINT raises `KeyboardInterrupt` at once. Outside the main thread Python allows no signal handlers; there
    signals keep their usual effect and never request a stop.

    Args:
        needs_parent: whether the end of the process that started this one requests a stop too.
        deadline: the time of `time.monotonic` from which on a stop is requested; None for never.
    """

    def __init__(self, *, needs_parent: bool = False, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._signalled = False
        self._parent = os.getppid() if needs_parent else None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should stop."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        return self._signalled or (self._parent is not None and os.getppid() != self._parent)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signalled = True
