"""Times of several functions that can be compared: they run in turns, so that a disturbance affects all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TURN = 0.02
"""Seconds of calls in one turn, which has at least one call."""

REST = 0.005
"""Seconds between turns. After this time worker threads that wait for more work in a loop have gone to sleep."""

ROUNDS = 3
"""The least number of turns of each function."""


@dataclass(frozen=True)
class Times:
    """The seconds of single calls, one list for each function.

    ``processor_share`` is processor time divided by elapsed time during the calls. If one thread works and it is below
    1, other programs used the processor meanwhile, which makes long calls slower than short ones.
    """

    seconds: list[list[float]]
    processor_share: float


def interleaved(runs: Sequence[Callable[[], object]], seconds: float) -> Times:
    """Time functions in turns, whose order is random.

    Each turn begins with a call that is not timed: it fills the caches and wakes the threads again.

    Args:
        runs: the functions to call.
        seconds: how long to take for all functions together, approximately.
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
