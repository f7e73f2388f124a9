"""How many bytes the generated C takes: constants measured once, and the estimates that are made of them.

A test compiles programs for a Cortex-M3 and compares these numbers with the object files.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class OperatorBytes:
    """Bytes of one operator of `operators.c`, `float.c` or `fixed.c`.

    Attributes:
        code: machine code for a Cortex-M3 at ``-Os``, an estimate.
        description: the constant that describes a call, without its epilogue, where pointers have 32 bits: in float32,
            and in integers.
    """

    code: int
    description: tuple[int, int]


OPERATOR_BYTES = {
    "read_pixels": OperatorBytes(460, (4, 4)),
    "binary_convolution": OperatorBytes(1860, (48, 48)),
    "lookup_convolution": OperatorBytes(2050, (48, 48)),
    "grouped_binary_convolution": OperatorBytes(610, (52, 52)),
    "pixel_convolution": OperatorBytes(1050, (48, 48)),
    "convolution": OperatorBytes(240, (40, 40)),
    "signed_convolution": OperatorBytes(260, (44, 44)),
    "transfer": OperatorBytes(200, (24, 24)),
    "flatten": OperatorBytes(120, (12, 12)),
    "pool": OperatorBytes(310, (36, 48)),
    "levels_convolution": OperatorBytes(760, (48, 48)),
}
"""The sizes of every operator on images, by its name in C."""

ARRAY_OPERATOR_BYTES = {
    "fill": OperatorBytes(24, (12, 12)),
    "copy": OperatorBytes(100, (28, 32)),
    "unary": OperatorBytes(120, (44, 48)),
    "binary": OperatorBytes(120, (40, 44)),
    "choose": OperatorBytes(110, (24, 28)),
    "reduce": OperatorBytes(130, (32, 32)),
    "softmax": OperatorBytes(280, (32, 52)),
    "normalize": OperatorBytes(240, (36, 40)),
    "matmul": OperatorBytes(260, (56, 60)),
    "sample": OperatorBytes(270, (44, 44)),
}
"""The sizes of every operator on arrays, which have no epilogue."""

NEST_CODE_BYTES = 190
"""Machine code that operators on arrays share."""

FUNCTION_CODE_BYTES = 40
"""Machine code of a function that is called for each element."""

LIBRARY_CODE_BYTES = 500
"""Machine code of a function of ``math.h``, roughly: libraries differ."""

COPY_CODE_BYTES = 24
"""Machine code that copies a result or a further input, each after the first."""

EPILOGUE_BYTES = 48, 56
"""Bytes of the epilogue in the description of a call: in float32, and in integers."""

COMMON_CODE_BYTES = 300
"""Machine code that all operators share."""

SLOW_CODE_BYTES = 350
"""Machine code that finishes sums of signs one by one, where 16 of them cannot always be finished in one go."""

CALL_CODE_BYTES = 10
"""Machine code of each call of an operator."""

SOFT_FLOAT_BYTES = 1600
"""Machine code that the compiler's library adds to float32 where the processor has no floating point."""

STREAM_CODE_BYTES = 35
"""Machine code of a call that computes some rows, beside that of a call."""

STACK_BYTES = 960
"""The most that the deepest call takes of the stack of a 32-bit processor."""


def code_bytes(
    operators: Collection[str],
    calls: int,
    *,
    integer: bool,
    functions: int = 0,
    library: Collection[str] = (),
    copies: int = 0,
    streamed: int = 0,
    slow: bool = False,
) -> int:
    """Estimate the machine code of a program for a Cortex-M3 at ``-Os``.

    Args:
        operators: names of the operators that it has, each once.
        calls: how many calls of them it makes.
        integer: whether it computes in integers alone.
        functions: how many functions operators on arrays call for each element.
        library: the functions of ``math.h`` that it calls.
        copies: how many results and further inputs it copies, without the first.
        streamed: how many of the calls compute some rows.
        slow: whether it finishes sums of signs one by one, in integers.
    """
    sizes = OPERATOR_BYTES | ARRAY_OPERATOR_BYTES
    own = sum(sizes[name].code for name in operators)
    if any(name in ARRAY_OPERATOR_BYTES for name in operators):
        own += NEST_CODE_BYTES + FUNCTION_CODE_BYTES * functions + LIBRARY_CODE_BYTES * len(library)
    own += CALL_CODE_BYTES * calls + STREAM_CODE_BYTES * streamed + COPY_CODE_BYTES * copies
    own += SLOW_CODE_BYTES if slow else 0
    return COMMON_CODE_BYTES + own + (0 if integer else SOFT_FLOAT_BYTES)


def description_bytes(operator: str, *, integer: bool) -> int:
    """Bytes of the constant that describes one call of an operator, its epilogue included."""
    if operator in ARRAY_OPERATOR_BYTES:
        return ARRAY_OPERATOR_BYTES[operator].description[integer]
    return OPERATOR_BYTES[operator].description[integer] + EPILOGUE_BYTES[integer]
