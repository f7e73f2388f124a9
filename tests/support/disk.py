"""What a process does to the files of a folder, operation by operation: recorded, interrupted, or refused.

`watch` puts itself between Python and the system for files below a folder. Each operation is recorded; at a given one
the process can be killed in its middle, or told that the disk is full, from then on.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        kind: ``"create"``, ``"write"``, ``"cut"``, ``"sync"`` (a file), ``"sync folder"``, ``"rename"``, ``"remove"``,
            ``"make folder"`` or ``"remove folder"``.
        path: relative to the folder that is watched.
        other: the new path of a rename.
        place: where a write begins, or the length after a cut.
        data: what is written.
    """

    kind: str
    path: str
    other: str = ""
    place: int = 0
    data: bytes = b""


NEEDS_ROOM = ("create", "write", "make folder")
"""The kinds of operations that a full disk refuses."""


class Watcher:
    """Records the operations on the files below a folder.

    Args:
        root: the folder.
        interrupt: is given the number of each operation before it is done, and may return ``"kill"`` or ``"full"``.
    """

    def __init__(self, root: Path, interrupt: Callable[[int], str | None] = lambda _number: None) -> None:
        self.root, self.steps = os.path.realpath(root), list[Step]()
        self.full = False
        self._interrupt = interrupt
        self._open = builtins.open
        self._system = {name: getattr(os, name) for name in _PATCHED}
        self._names: dict[int, str] = {}

    def inside(self, path: Any) -> str | None:
        """The path relative to the folder; None for a file elsewhere."""
        if isinstance(path, int):
            return self._names.get(path)
        above, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        full = os.path.join(os.path.realpath(above), name)
        return os.path.relpath(full, self.root) if full.startswith(self.root) else None

    def note(self, step: Step, half: Callable[[], object] = lambda: None) -> None:
        """Record an operation that is about to be done; ``half`` does a part of it, before a kill or an error."""
        number = len(self.steps)
        self.steps.append(step)
        verdict = self._interrupt(number)
        if verdict == "kill":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        self.full = self.full or verdict == "full"
        if self.full and step.kind in NEEDS_ROOM:
            if step.kind == "write" and verdict == "full":
                half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), step.path)

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        """Stands for the built-in `open`."""
        path = None if isinstance(file, int) else self.inside(file)
        if path is None or not set(mode) & set("wax+"):
            return self._open(file, mode, buffering, *rest, **more)
        existed = os.path.exists(file)
        if not existed or "w" in mode:
            self.note(Step("cut" if existed else "create", path))
        raw = _WatchedFile(self, path, file, mode.replace("b", "").replace("t", ""))
        buffered: Any = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        if "b" in mode:
            return buffered
        names = ("encoding", "errors", "newline")
        text = dict(zip(names, rest, strict=False)) | more
        return io.TextIOWrapper(buffered, **{name: text[name] for name in names if name in text})


class _WatchedFile(io.FileIO):
    def __init__(self, watcher: Watcher, path: str, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self._watcher, self._path = watcher, path
        watcher._names[self.fileno()] = path
        if "a" in mode:
            self.seek(0, os.SEEK_END)

    def write(self, data: Any) -> int:
        content = bytes(data)
        step = Step("write", self._path, place=self.tell(), data=content)
        self._watcher.note(step, lambda: io.FileIO.write(self, content[: len(content) // 2]))
        return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        self._watcher.note(Step("cut", self._path, place=length))
        return super().truncate(length)

    def close(self) -> None:
        if not self.closed:
            self._watcher._names.pop(self.fileno(), None)
        super().close()


_PATCHED = ("open", "close", "write", "ftruncate", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir")


@contextmanager
def watch(root: Path, interrupt: Callable[[int], str | None] = lambda _number: None) -> Iterator[Watcher]:
    """Watch a folder, which must exist, until the end of the block; see `Watcher`."""
    watcher = Watcher(root, interrupt)
    system = watcher._system
    inside, note, names = watcher.inside, watcher.note, watcher._names

    def open_descriptor(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        found = inside(path)
        if found is not None and flags & os.O_CREAT and not os.path.exists(path):
            note(Step("create", found))
        descriptor: int = system["open"](path, flags, *rest, **more)
        if found is not None:
            names[descriptor] = found
        return descriptor

    def close(descriptor: int) -> None:
        names.pop(descriptor, None)
        system["close"](descriptor)

    def write(descriptor: int, data: bytes) -> int:
        if (found := names.get(descriptor)) is not None:
            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            note(Step("write", found, place=place, data=data), lambda: system["write"](descriptor, data[:1]))
        return int(system["write"](descriptor, data))

    def ftruncate(descriptor: int, length: int) -> None:
        if (found := names.get(descriptor)) is not None:
            note(Step("cut", found, place=length))
        system["ftruncate"](descriptor, length)

    def fsync(descriptor: int) -> None:
        if (found := names.get(descriptor)) is not None:
            note(Step("sync folder" if os.path.isdir(f"{watcher.root}/{found}") else "sync", found))
        # The disk itself is not flushed: what a loss of power would leave is computed from the record.

    def move(old: Any, new: Any, **more: Any) -> None:
        if (found := inside(old)) is not None:
            note(Step("rename", found, other=inside(new) or ""))
        system["replace"](old, new, **more)

    def unlink(path: Any, **more: Any) -> None:
        if not more and (found := inside(path)) is not None and os.path.lexists(path):
            note(Step("remove", found))
        system["unlink"](path, **more)

    def mkdir(path: Any, *rest: Any, **more: Any) -> None:
        if (found := inside(path)) is not None and not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
            note(Step("make folder", found))
        system["mkdir"](path, *rest, **more)

    def rmdir(path: Any, **more: Any) -> None:
        if not more and (found := inside(path)) is not None:
            note(Step("remove folder", found))
        system["rmdir"](path, **more)

    own = {
        "open": open_descriptor, "close": close, "write": write, "ftruncate": ftruncate, "fsync": fsync,
        "replace": move, "rename": move, "unlink": unlink, "remove": unlink, "mkdir": mkdir, "rmdir": rmdir,
    }  # fmt: skip
    builtins.open = io.open = watcher.open  # type: ignore[assignment]
    for name, function in own.items():
        setattr(os, name, function)
    try:
        yield watcher
    finally:
        builtins.open = io.open = watcher._open
        for name, function in system.items():
            setattr(os, name, function)
