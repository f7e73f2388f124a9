"""Ctrl-C at any moment of a command: one line, and exit status 130.

It imports nothing that takes time, so that Ctrl-C is handled from the start.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C has ended."""

GRACE_SECONDS = 5
"""How long a command may take to end after the first Ctrl-C."""


class Interrupts:
    """What Ctrl-C does outside of training, which saves and stops by `biper.training.interruption`.

    The first one raises `KeyboardInterrupt`, so that files are closed and workers end. Python alone would not do: code
    of other packages may suppress the exception, and where it has passed through `exec`, Python ends the process by the
    signal instead of the exit status. So the process ends after a few seconds in any case, and at a second Ctrl-C.
    """

    def __init__(self) -> None:
        self._seen = False

    def install(self) -> None:
        """Handle Ctrl-C from now on."""
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return  # it is ignored, as for a command in the background
        signal.signal(signal.SIGINT, self._interrupt)
        atexit.register(self._leave)  # the first to be registered is the last to be called

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._seen:
            end_at_once()
        self._seen = True
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.signal(signal.SIGALRM, lambda *_: end_at_once())
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        raise KeyboardInterrupt

    def _leave(self) -> None:
        if self._seen:
            sys.stdout.flush()
            os._exit(INTERRUPTED)


def ignore_interrupts() -> None:
    """Give a further Ctrl-C no effect while the process ends, which has said why."""
    while True:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if hasattr(signal, "SIGALRM"):
                signal.signal(signal.SIGALRM, lambda *_: os._exit(INTERRUPTED))
        except KeyboardInterrupt:  # one that came before
            continue
        return


def end_at_once() -> None:
    """End the process with one line on standard error, without cleaning up."""
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)


def end_interrupted() -> None:
    """End the process with one line on standard error."""
    ignore_interrupts()
    print("error: interrupted", file=sys.stderr)  # noqa: T201  typer may not be imported yet
    sys.exit(INTERRUPTED)
