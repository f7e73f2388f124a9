"""What a device does during training steps: how many kernels it runs, and how much of the time it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_training import wait_for
from plain_training import Step
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from biper.training.recorded import WARM_UP


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


def watch(step: Step, device: str, steps: int = 10) -> Activity:
    """What a device does during some steps, as the profiler of torch sees it; on a CPU, operators count as kernels."""
    for _ in range(WARM_UP + 2):
        step()
    wait_for(device)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as watched:
        for _ in range(steps):
            step()
        wait_for(device)
    events = [event for event in watched.events() or () if _is_kernel(event, device)]
    return activity_of(
        [(event.name, event.time_range.start / 1e6, event.time_range.end / 1e6) for event in events], steps
    )


def _is_kernel(event: FunctionEvent, device: str) -> bool:
    """Whether an event is work of a device; the profiler also marks sections of the program on its time line."""
    if event.device_type.name.lower() != device or event.is_user_annotation:
        return False
    return device != "cpu" or not event.cpu_children
