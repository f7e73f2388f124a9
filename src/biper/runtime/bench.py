"""The speed of a packed model: of whole calls, of each operation, and of what the processor can do at most."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

import numpy as np

from biper.runtime.arguments import MAX_THREADS, require_count, require_memory
from biper.runtime.engine import Engine
from biper.runtime.operations import OPERATIONS
from biper.runtime.program import Operation, Program, Shape


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
        ModelError: ``batch`` or ``threads`` is no number that can be, or the images do not fit into memory.
        ModelFormatError: the native engine refuses the program, or the processor lacks the instruction set.
    """
    require_call(program, batch, threads)
    engine = Engine(program, instruction_set, threads)
    random = np.random.Generator(np.random.PCG64(0))
    images = random.standard_normal((batch, *program.input_shape), np.float32)
    others = {name: random.standard_normal((batch, *shape), np.float32) for name, shape in program.inputs.items()}
    warm_until = time.perf_counter() + seconds / 10
    while time.perf_counter() < warm_until:
        engine.run(images, others)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        started = time.perf_counter()
        engine.run(images, others)
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


def require_call(program: Program, batch: int, threads: int) -> None:
    """Check the size of a call that is to be timed, before anything is allocated for it.

    Raises:
        ModelError: ``batch`` or ``threads`` is no number that can be, or the images do not fit into memory.
    """
    require_count("threads", threads, MAX_THREADS)
    shapes = [program.input_shape, *program.inputs.values(), program.output_shape]
    values = sum(map(math.prod, shapes))
    require_memory("batch", require_count("batch", batch), 4 * values)


def profile(program: Program, engine: Engine, rounds: int = 100) -> tuple[OperationTime, ...]:
    """The time that each operation of a program takes on one image, as the median of ``rounds`` runs."""
    rows = []
    shapes = program.shapes
    for op, spent in zip(program.operations, engine.profile(rounds), strict=True):
        macs = multiply_accumulates(op, [shapes[name] for name in op.inputs])
        binary = op.operation == "binary_convolution"
        rows.append(OperationTime(op.source, op.operation, spent, macs if binary else 0, 0 if binary else macs))
    return tuple(rows)


def multiply_accumulates(op: Operation, inputs: list[Shape]) -> int:
    """Multiply-accumulates of a convolution or matrix product on one image, including taps in the padding; else 0.

    ``inputs`` are the shapes of the values that the operation reads.
    """
    if op.operation not in ("convolution", "binary_convolution", "matmul"):
        return 0
    return math.prod(op.shape) * OPERATIONS[op.operation].work(inputs, op.shape, op.attributes, op.tensors)
