"""How fast a packed model runs: whole calls, operation by operation, and against what the processor could do."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from biper.runtime.engine import Engine
from biper.runtime.program import Operation, Program


@dataclass(frozen=True)
class OperationTime:
    """One operation on one image: its median time, and its multiply-accumulates (of bits, or real)."""

    source: str
    operation: str
    seconds: float
    binary_macs: int
    real_macs: int


@dataclass(frozen=True)
class BenchReport:
    """Times are of one call on ``batch`` images, after warming up."""

    instruction_set: str
    threads: int
    batch: int
    median_seconds: float
    minimum_seconds: float
    calls: int
    peak_macs_per_second: float
    """Binary multiply-accumulates a second of one core on registers alone, measured in the same run."""
    binary_macs: int
    """Of one image."""
    memory_bytes: int
    """For the values of one image."""
    operations: tuple[OperationTime, ...]

    @property
    def images_per_second(self) -> float:
        """At the median."""
        return self.batch / self.median_seconds


def bench(
    program: Program, *, batch: int = 1, threads: int = 1, instruction_set: str | None = None, seconds: float = 2.0
) -> BenchReport:
    """Time a program on random images.

    Args:
        program: a validated program.
        batch: images of one call.
        threads: how many share the work of one call.
        instruction_set: see `biper.runtime.engine.Engine`.
        seconds: about how long to measure.
    """
    engine = Engine(program, instruction_set, threads)
    images = np.random.Generator(np.random.PCG64(0)).standard_normal((batch, *program.input_shape)).astype(np.float32)
    warm_until = time.perf_counter() + seconds / 10
    while time.perf_counter() < warm_until:
        engine(images)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        started = time.perf_counter()
        engine(images)
        times.append(time.perf_counter() - started)
    peak = engine.measure_peak()
    rows = profile(program, engine)
    return BenchReport(
        instruction_set=engine.instruction_set,
        threads=threads,
        batch=batch,
        median_seconds=statistics.median(times),
        minimum_seconds=min(times),
        calls=len(times),
        peak_macs_per_second=peak,
        binary_macs=sum(row.binary_macs for row in rows),
        memory_bytes=engine.arena_bytes,
        operations=rows,
    )


def profile(program: Program, engine: Engine, rounds: int = 100) -> tuple[OperationTime, ...]:
    """How long each operation of a program takes on one image: medians of ``rounds`` runs."""
    rows = []
    shapes = program.shapes
    for op, spent in zip(program.operations, engine.profile(rounds), strict=True):
        macs = multiply_accumulates(op, shapes[op.inputs[0]][0])
        binary = op.operation == "binary_convolution"
        rows.append(OperationTime(op.source, op.operation, spent, macs if binary else 0, 0 if binary else macs))
    return tuple(rows)


def multiply_accumulates(op: Operation, in_channels: int) -> int:
    """Multiply-accumulates of a convolution on one image, taps in the padding included; 0 for other operations."""
    if op.operation not in ("convolution", "binary_convolution"):
        return 0
    weight = op.tensors["weight"]
    kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
    return int(np.prod(op.shape)) * int(np.prod(kernel)) * (in_channels // op.attributes["groups"])
