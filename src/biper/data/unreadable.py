"""Unreadable images: each is counted, named and listed in a file, and too many of them stop the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from biper.errors import DataError, printable

LONGEST = 2_000
"""Longer names and reasons are cut. Those that fit stay whole, because a name tells whether an image is counted."""


class UnreadableImages:
    """The unreadable images found so far, each counted once, however often it is read.

    Args:
        limit: how many are accepted.
        file: a text file that lists them, one a line: name, tab, reason. Images that it lists already are counted.
            The file is written when its folder exists; see `write`. With None there is no file.
        report: called with a line of text for each new image; the default warns.

    Raises:
        DataError: (raised by `add`) there are more than ``limit``.
    """

    def __init__(
        self, limit: int = 100, file: Path | None = None, report: Callable[[str], object] = warnings.warn
    ) -> None:
        self.limit, self.file, self.report = limit, file, report
        self.names: dict[str, str] = {}
        """The name of each unreadable image, and the reason."""
        if file is not None and file.exists():
            whole, newline, _half = file.read_text(encoding="utf-8").rpartition("\n")
            file.write_text(whole + newline, encoding="utf-8")  # a killed process may have left half a line
            self.names = {name: reason for name, _, reason in (line.partition("\t") for line in whole.splitlines())}
        self._written = len(self.names)

    def add(self, name: str, reason: str) -> None:
        """Record that an image cannot be read."""
        name, reason = (printable(" ".join(text.split())[:LONGEST]) for text in (name, reason))
        if name in self.names:
            return
        self.names[name] = reason
        self.write()
        if len(self.names) > self.limit:
            listed = f"; all are listed in {self.file}" if self.file is not None and self.file.exists() else ""
            raise DataError(
                f"more than {self.limit} images cannot be read, the last one {name}: {reason}{listed}. Repair the "
                'data, or accept more with overrides=["data.max_unreadable=N"]'
            )
        self.report(f"unreadable image {len(self.names)} (at most {self.limit} are left out): {name}: {reason}")

    def write(self) -> None:
        """Append the images that the file does not list yet, if the folder of the file exists."""
        if self.file is None or not self.file.parent.is_dir() or self._written == len(self.names):
            return
        with open(self.file, "a", encoding="utf-8", errors="backslashreplace") as file:
            for name, reason in list(self.names.items())[self._written :]:
                file.write(f"{name}\t{reason}\n")
        self._written = len(self.names)
