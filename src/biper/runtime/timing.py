"""Times that may be compared: everything runs in turn, in one stretch of time, so that what disturbs disturbs all."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TURN = 0.02
"""Seconds of calls before it is another's turn, at least one call."""

REST = 0.005
"""Seconds between turns: worker threads that wait in a loop for more have gone to sleep by then."""

ROUNDS = 3
"""Least number of turns of each."""


@dataclass(frozen=True)
class Times:
    """Seconds of single calls, a list for each that was called.

    ``processor_share`` is processor time over elapsed time while they ran: where one thread works and it is below 1,
    other programs took the rest, and long calls are slower for it than short ones.
    """

    seconds: list[list[float]]
    processor_share: float


def interleaved(runs: Sequence[Callable[[], object]], seconds: float) -> Times:
    """Times of calls, in turns of random order.

    A turn begins with a call that is not timed: it brings back caches and threads that another's turn put to sleep.

    Args:
        runs: what to call.
        seconds: about how long to take, all together.
    """
    order, stop = random.Random(0), time.perf_counter() + seconds
    times: list[list[float]] = [[] for _ in runs]
    elapsed = used = 0.0
    rounds = 0
    while rounds < ROUNDS or time.perf_counter() < stop:
        rounds += 1
        for index in order.sample(range(len(runs)), len(runs)):
            time.sleep(REST)
            runs[index]()
            used -= time.process_time()
            turn_began = ended = time.perf_counter()
            while ended < turn_began + TURN:
                started = time.perf_counter()
                runs[index]()
                ended = time.perf_counter()
                times[index].append(ended - started)
            used += time.process_time()
            elapsed += ended - turn_began
    return Times(times, used / elapsed)
