"""The speed of a packed model: of whole calls, of each operation, and of what the processor can do at most."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

import numpy as np

from biper.runtime.engine import Engine
from biper.runtime.program import Operation, Program


@dataclass(frozen=True)
class OperationTime:
    """The median seconds of an operation on one image, and its multiply-accumulates of bits and of real values."""

    source: str
    operation: str
    seconds: float
    binary_macs: int
    real_macs: int


@dataclass(frozen=True)
class BenchReport:
    """Result of `bench`. The times are of one call on ``batch`` images, in seconds, after a warm-up."""

    instruction_set: str
    threads: int
    batch: int
    median_seconds: float
    minimum_seconds: float
    calls: int
    peak_macs_per_second: float
    """Binary multiply-accumulates per second of one core on registers alone, measured in the same run."""
    binary_macs: int
    """Binary multiply-accumulates of one image."""
    memory_bytes: int
    """Memory for the values of one image."""
    operations: tuple[OperationTime, ...]

    @property
    def images_per_second(self) -> float:
        """Images per second at the median time."""
        return self.batch / self.median_seconds


def bench(
    program: Program, *, batch: int = 1, threads: int = 1, instruction_set: str | None = None, seconds: float = 2.0
) -> BenchReport:
    """Time a program on random images.

    Args:
        program: a validated program.
        batch: the number of images in one call.
        threads: the number of threads that share the work of one call.
        instruction_set: see `biper.runtime.engine.Engine`.
        seconds: how long to measure, approximately.

    Raises:
        ModelFormatError: the native engine refuses the program, or the processor lacks the instruction set.
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
    """The time that each operation of a program takes on one image, as the median of ``rounds`` runs."""
    rows = []
    shapes = program.shapes
    for op, spent in zip(program.operations, engine.profile(rounds), strict=True):
        macs = multiply_accumulates(op, shapes[op.inputs[0]][0])
        binary = op.operation == "binary_convolution"
        rows.append(OperationTime(op.source, op.operation, spent, macs if binary else 0, 0 if binary else macs))
    return tuple(rows)


def multiply_accumulates(op: Operation, in_channels: int) -> int:
    """Multiply-accumulates of a convolution on one image, including taps in the padding; 0 for other operations."""
    if op.operation not in ("convolution", "binary_convolution"):
        return 0
    weight = op.tensors["weight"]
    kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
    return math.prod(op.shape) * math.prod(kernel) * (in_channels // int(op.attributes["groups"]))
