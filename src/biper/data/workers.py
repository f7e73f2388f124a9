"""Worker processes, as torch's DataLoader starts them: made to live with signals, resuming and one-line errors."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
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


def default_workers(processes: int = 1) -> int:
    """Worker processes where nobody says how many: a core each, one left for training, at most 16.

    Args:
        processes: training processes that share this machine's cores.
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
        dataset: sent to each worker once.
        requests: gone through again in each pass over the loader.
        workers: how many processes, which live as long as the loader; 0 computes in this one.
        pin_memory: put tensors where a GPU can fetch them while it computes.
        start_method: ``"fork"`` or ``"spawn"``; default the platform's way.
    """
    several = workers > 0
    leaving = multiprocessing.get_context(start_method).RawValue("b", 0)
    if several:
        atexit.register(setattr, leaving, "value", 1)  # before multiprocessing ends and awaits its processes
    return _Loader(
        dataset,
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=partial(_answer_signals, leaving),
        generator=torch.Generator(),  # each pass would advance the global one, and a resumed run makes fewer passes
        prefetch_factor=4 if several else None,
        persistent_workers=several,
        multiprocessing_context=start_method if several else None,
    )


class _Loader(DataLoader[T]):
    def check_worker_number_rationality(self) -> None:
        """Torch would warn of more workers than cores, at every pass; whoever asks for them has reasons."""


@contextmanager
def one_line_worker_errors() -> Iterator[None]:
    """Turns what torch says of a worker process that died, wherever it says it, into a `DataError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if text.startswith("DataLoader worker") or "No space left on device" in text:
            raise DataError(
                f"a decoding process failed ({text.splitlines()[0]}): memory or shared memory (/dev/shm) may be short; "
                "use fewer workers=..., or 0"
            ) from error
        raise


def _as_it_is(answer: Any) -> Any:
    return answer


def _answer_signals(leaving: Any, _worker: int) -> None:
    """Ctrl-C and SIGTERM reach every process of a run: the main one answers, and still needs its workers until it ends.

    ``leaving`` is a shared number, not 0 once the main process ends; its own SIGTERM, which then comes, is obeyed.
    """

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        if leaving.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_sigterm)
