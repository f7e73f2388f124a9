"""The lock of a run folder: one process at a time trains in it."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
import warnings
import weakref
from pathlib import Path

from biper.errors import RecipeError

LOCK_FILE = ".lock"
"""The name of the lock file in a run folder. It exists while a process trains there."""

_FIRST_BYTE = 1 << 30
"""Where Windows locks the file: behind its text, which other processes must be able to read."""


class RunLock:
    """The right to train in a folder, which at most one process has.

    The operating system ends the lock with its process, however the process ends; a lock file that a killed process
    left does no harm. Child processes do not share the lock.

    Args:
        folder: the run folder. It must exist when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / LOCK_FILE
        self._descriptor: int | None = None
        if hasattr(os, "register_at_fork"):
            itself = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(itself()))

    def acquire(self) -> None:
        """Take the lock; a lock that this object holds stays as it is.

        Raises:
            RecipeError: another process holds the lock, or another run of this process.
            OSError: the lock file cannot be made.
        """
        while self._descriptor is None:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not _try_lock(descriptor):
                    raise RecipeError(
                        f"{self.folder} is in use, {_holder(self.file)} trains there: wait until it ends, or train "
                        "into another folder with out=..."
                    )
                if _is_at(descriptor, self.file):  # else its last holder has just removed the file
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                    self._descriptor, descriptor = descriptor, -1
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, and remove its file; without a lock nothing happens."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if sys.platform != "win32":  # where a file that is open cannot be removed
            self.file.unlink(missing_ok=True)
        os.close(descriptor)


def _forget(lock: RunLock | None) -> None:
    """Close the copy of a lock that a forked process got, so that it does not keep the lock of its parent alive."""
    if lock is not None and lock._descriptor is not None:
        os.close(lock._descriptor)
        lock._descriptor = None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _holder(file: Path) -> str:
    """The process that holds a lock, in words; it has written its number a moment after it took the lock."""
    for _ in range(20):
        try:
            process, host = file.read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            time.sleep(0.01)
            continue
        return f"process {process}" + ("" if host == socket.gethostname() else f" on {host}")
    return "another process"


def _try_lock(descriptor: int) -> bool:
    """Lock an open file unless another process has locked it; returns whether this process has the lock.

    On a file system without locks it warns, and returns True.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _FIRST_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        warnings.warn(
            f"this file system has no locks ({error.strerror}): make sure that only one process trains in this folder",
            stacklevel=3,
        )
    return True
