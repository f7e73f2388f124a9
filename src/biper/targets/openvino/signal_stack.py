"""Keeps a thread's alternate signal stack: OpenVINO replaces it and later frees what it put there.

A signal whose handler uses that stack, as Python's do, then kills the process: the end of a child after PyTorch's data
loader has set a handler for it, say. Seen with OpenVINO 2026.4.1 on Linux.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """What ``sigaltstack`` reads and writes."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """The calling thread's alternate stack, on Linux."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Puts the thread's signal stack back at the end; nothing where there is no such thing."""
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
