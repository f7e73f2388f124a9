"""Small packed programs, built operation by operation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program, pack_weight, write_program
from biper.runtime.reader import read_program

PLAIN = {"stride": [1, 1], "dilation": [1, 1], "padding": [0, 0, 0, 0], "groups": 1}
PADDED = PLAIN | {"padding": [1, 1, 1, 1]}


def program_of(shape: tuple[int, int, int], operations: Sequence[Operation], output: str) -> Program:
    """A program that was written and read again, so that the reader has checked it and derived its shapes."""
    channels = shape[0]
    program = Program(shape, (0.0,) * channels, (1.0,) * channels, (), output, tuple(operations))
    return read_program(write_program(program))


def operation(kind: str, reads: str, tensors: dict[str, NDArray] | None = None, **rest: object) -> Operation:
    """An operation on one value; ``rest`` are fields of `Operation`. The reader derives its shape."""
    return Operation(kind, "test", (reads,), (0, 0, 0), tensors=tensors or {}, **rest)


def random_bits(random: np.random.Generator, *shape: int) -> dict[str, NDArray]:
    """The tensors of a binary convolution with random weights (O, I / groups, kh, kw)."""
    return {"weight": pack_weight(random.random(shape) < 0.5)}
