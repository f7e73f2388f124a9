"""metrics.jsonl in training: it is written row by row, and a resumed run restores it from the checkpoint."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from biper.io.files import atomic_write
from biper.runs.folder import RunFolder
from biper.runs.records import MetricsRow

ENTRY = "metrics"
"""The name of the tensor of a checkpoint that holds the rows: zlib-compressed text as uint8."""


class MetricsLog:
    """The rows of metrics.jsonl, in memory and in the file.

    A checkpoint keeps a copy of the rows. The file is therefore right again after the next epoch, or after resuming, if
    somebody has removed or changed it.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.content = b""

    def append(self, row: MetricsRow) -> int:
        """Write the row of an epoch; returns the new length of the file in bytes."""
        if self._found() != self.content:
            atomic_write(self.folder.metrics_file, self.content)
        length = self.folder.append_metrics(row)
        self.content = self._found()
        return length

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint must keep."""
        packed = np.frombuffer(zlib.compress(self.content), np.uint8)
        return {ENTRY: torch.from_numpy(packed.copy())}

    def restore(self, saved: Mapping[str, Tensor], length: int, done: Iterable[tuple[int, int]]) -> str | None:
        """Bring the file to the state that it had when a checkpoint was saved.

        Args:
            saved: the tensors of the checkpoint; empty for a run that starts.
            length: the length that the file had, in bytes.
            done: stage and number of each epoch that was done then.

        Returns:
            What was repaired, for people; None if nothing had to be.
        """
        found = self._found()
        if ENTRY not in saved and length > 0:
            return self._keep_valid(found[:length], length, done)
        self.content = zlib.decompress(saved[ENTRY].numpy().tobytes()) if ENTRY in saved else b""
        if found[: len(self.content)] == self.content:
            self.folder.truncate_metrics(len(self.content))
            return None
        atomic_write(self.folder.metrics_file, self.content)
        rows = self.content.count(b"\n")
        return f"{self.folder.metrics_file} was missing or changed: its {rows} rows are restored from the checkpoint"

    def _keep_valid(self, found: bytes, length: int, done: Iterable[tuple[int, int]]) -> str | None:
        """Restore the file for a checkpoint of an older version, which holds no rows: the valid rows are kept."""
        rows: dict[tuple[int, int], bytes] = {}
        for line in found.splitlines(keepends=True):
            try:
                row = MetricsRow.from_json(json.loads(line))
            except (ValueError, RecursionError):
                continue
            if line.endswith(b"\n"):
                rows.setdefault((row.stage, row.epoch), line)
        expected = list(done)
        self.content = b"".join(rows[key] for key in expected if key in rows)
        if self.content == found and len(found) == length:
            self.folder.truncate_metrics(length)
            return None
        atomic_write(self.folder.metrics_file, self.content)
        missing = [f"stage {stage} epoch {epoch}" for stage, epoch in expected if (stage, epoch) not in rows]
        if not missing:
            return f"{self.folder.metrics_file} had lines that are not its own, which are removed"
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        warnings.warn(
            f"{self.folder.metrics_file} was missing or changed, and the checkpoint holds no copy: the rows of "
            f"{len(missing)} epochs are lost ({some})",
            stacklevel=2,
        )
        return None

    def _found(self) -> bytes:
        file = self.folder.metrics_file
        return file.read_bytes() if file.exists() else b""
