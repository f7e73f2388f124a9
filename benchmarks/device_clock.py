"""How long steps take on a device, measured there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

BLOCK = 20
"""Steps of one way that are timed together. The device is waited for before and after them, not between them."""


class Mark(Protocol):
    """A moment in the work of a device, as `torch.cuda.Event` notes it."""

    def record(self) -> None:
        """Note the moment at which the device reaches this point."""

    def elapsed_time(self, later: Mark) -> float:
        """Milliseconds from this moment to another."""


class _CpuMark:
    """A moment on the CPU, which has done everything before it already."""

    def record(self) -> None:
        self.moment = time.perf_counter()

    def elapsed_time(self, later: _CpuMark) -> float:
        return 1e3 * (later.moment - self.moment)


def _mark(device: str) -> Mark:
    mark: Mark = torch.cuda.Event(enable_timing=True) if device == "cuda" else _CpuMark()  # type: ignore[assignment,no-untyped-call]
    return mark


def wait_for(device: str) -> None:
    """Wait until a device has done everything that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def step_seconds(steps: Sequence[Callable[[], object]], device: str, rounds: int, block: int = BLOCK) -> list[float]:
    """The median time in seconds of each step, over blocks of steps in a row; the blocks of different steps take turns.

    Args:
        steps: what to time.
        device: ``cuda``, which notes the times itself (CUDA events), or ``cpu``.
        rounds: how many blocks of each step count; a block before them does not.
        block: how many times a step is taken in a block.
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for step, mine in zip(steps, times, strict=True):
            wait_for(device)
            before, after = _mark(device), _mark(device)
            before.record()
            for _ in range(block):
                step()
            after.record()
            wait_for(device)
            mine.append(before.elapsed_time(after) / 1e3 / block)
    return [statistics.median(mine[1:]) for mine in times]


def product_speed(device: str, dtype: torch.dtype, size: int, rounds: int = 5) -> float:
    """How many multiply-accumulates a matrix product of ``size`` x ``size`` makes in a second; float32 may use TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as convolutions of torch do on GPUs by default
    try:
        a = torch.randn(size, size, device=device).to(dtype)
        (seconds,) = step_seconds([lambda: a @ a], device, rounds, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    return float(size**3 / seconds)
