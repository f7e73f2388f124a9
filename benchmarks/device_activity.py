"""What a device does during training steps: how many kernels it runs, and how much of the time it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Activity:
    """What a device did during some steps.

    Attributes:
        kernels: how many kernels it ran in a step.
        busy: the share of the time in which at least one kernel ran.
        seconds: of a step, while the profiler watched.
        shares: the kernels that took the most time by name, and their share of the time of all kernels.
    """

    kernels: float
    busy: float
    seconds: float
    shares: dict[str, float]

    @property
    def limit(self) -> str:
        """What limits the speed, in words."""
        if self.busy < 0.8:
            return "launching: the device waits for the CPU"
        return f"the device: most of its time goes to {next(iter(self.shares), 'nothing')}"


def activity_of(intervals: Sequence[tuple[str, float, float]], steps: int, names: int = 12) -> Activity:
    """The activity of a device from the names, begins and ends of its kernels, in seconds.

    The time begins with the first kernel and ends with the last.
    """
    busy, until = 0.0, float("-inf")
    by_name: dict[str, float] = {}
    for name, begin, end in sorted(intervals, key=lambda interval: interval[1]):
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
        by_name[name] = by_name.get(name, 0.0) + end - begin
    if not intervals:
        return Activity(0.0, 0.0, 0.0, {})
    whole, total = until - min(begin for _, begin, _ in intervals), sum(by_name.values())
    longest = sorted(by_name.items(), key=lambda item: -item[1])[:names]
    shares = {name: seconds / total for name, seconds in longest} if total else {}
    return Activity(len(intervals) / steps, busy / whole if whole else 0.0, whole / steps, shares)
