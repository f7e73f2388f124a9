"""Worker processes of torch's DataLoader that outlive signals, do not disturb resuming, and fail in one line."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from biper.errors import DataError
from biper.runtime.cpu import usable_cores

T = TypeVar("T")

MOST_WORKERS = 16
DEAD_WORKER = "DataLoader worker"
"""How the text of the errors begins that torch raises for a dead worker process."""


def default_workers(processes: int = 1) -> int:
    """The default number of worker processes: one for each core but one, which is left for training, and at most 16.

    Args:
        processes: training processes that share the cores of this machine.
    """
    return min(max(usable_cores() // processes - 1, 0), MOST_WORKERS)


def worker_loader(
    dataset: Dataset[T],
    requests: Iterable[Any],
    workers: int,
    *,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> DataLoader[T]:
    """A loader that gives ``dataset[request]`` for each request, in order, computed by worker processes.

    Args:
        dataset: computes the answers; it is sent to each worker once.
        requests: iterated over anew in each pass over the loader.
        workers: number of processes, which live as long as the loader; 0 computes in this process.
        pin_memory: put tensors into pinned memory, from which a GPU can copy them while it computes.
        start_method: ``"fork"`` or ``"spawn"``; default that of the platform.
    """
    several = workers > 0
    leaving = multiprocessing.get_context(start_method).RawValue("b", 0)
    if several:
        atexit.register(setattr, leaving, "value", 1)  # runs before multiprocessing waits for its processes
    return _Loader(
        dataset,
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin_memory,
        worker_init_fn=partial(_handle_signals, leaving),
        generator=torch.Generator(),  # the global one would advance with each pass, and a resumed run makes fewer
        prefetch_factor=4 if several else None,
        persistent_workers=several,
        multiprocessing_context=start_method if several else None,
    )


class _Loader(DataLoader[T]):
    def check_worker_number_rationality(self) -> None:
        """Do not warn of more workers than cores, as torch would in every pass: the user asked for that number."""

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        answers = super().__iter__()
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except (OSError, EOFError) as error:
                if self.num_workers == 0 or _of_worker(error):
                    raise
                # torch's handler of SIGCHLD raises here if the worker was killed. Without the wait it may raise later,
                # where the run releases its lock, and hide this error behind its own.
                time.sleep(1)
                raise RuntimeError(f"{DEAD_WORKER} ended before its answer was received: {error!r}") from error
            yield answer


def _of_worker(error: Exception) -> bool:
    """Whether a living worker raised it, as a data set of the user may, so that torch has put its trace in the text."""
    return str(error).startswith("Caught ")


@contextmanager
def one_line_worker_errors() -> Iterator[None]:
    """Turn the errors that torch raises in the ``with`` block for a dead worker process into a `DataError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if text.startswith(DEAD_WORKER) or "No space left on device" in text:
            raise DataError(
                f"a decoding process failed ({text.splitlines()[0]}): memory or shared memory (/dev/shm) may be short; "
                "use fewer workers=..., or 0"
            ) from error
        raise


def _unchanged(answer: Any) -> Any:
    return answer


def _handle_signals(leaving: Any, _worker: int) -> None:
    """Keep a worker alive when Ctrl-C or SIGTERM reaches every process of a run.

    The main process handles the signal, and needs its workers until it has ended the run. ``leaving`` is a number in
    shared memory: 1 once the main process ends. It then stops its workers with SIGTERM, which is obeyed.
    """

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        if leaving.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_sigterm)
