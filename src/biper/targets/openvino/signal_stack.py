"""Restores a thread's alternate signal stack: OpenVINO replaces it, and later frees the memory that it put there.

A signal whose handler uses that stack, as Python's handlers do, then kills the process. An example is the end of a
child process after PyTorch's data loader has set a handler for it. Seen with OpenVINO 2026.4.1 on Linux.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """The struct that ``sigaltstack`` reads and writes."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """Read the calling thread's alternate signal stack, on Linux."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextmanager
def restored_signal_stack() -> Iterator[None]:
    """Restore the thread's alternate signal stack at the end; does nothing on other systems than Linux."""
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
