"""The numbers of a run as TensorBoard events, written epoch by epoch."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from biper.io.files import make_folder


class EventLog:
    """A file of TensorBoard events, which is made when it is first written to.

    The numbers of an epoch are written at once and by the calling thread, so that an error of the disk is raised here.

    Args:
        folder: the folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by their names.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if self._file is None:
            make_folder(self._folder)
            name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.0"
            self._file = open(self._folder / name, "ab")  # noqa: SIM115  close closes it
            self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._file.flush()

    def _add(self, event: Event) -> None:
        RecordWriter(self._file).write(event.SerializeToString())

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
