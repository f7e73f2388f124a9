"""The first operations of a network, computed a few rows at a time: of their values, only the rows in use are kept.

In step ``t``, an operation computes its rows ``t band - lag`` to ``(t + 1) band - lag``, as far as there are such rows:
its lag is how many rows it must wait until the rows below, which its kernel reads, were computed. A value that only
these operations read is a ring of rows: row ``r`` lies where row ``r - ring`` lay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biper.runtime.program import Operation, Program
from biper.targets.c.fixed_point import PIXEL_CONVOLUTION
from biper.targets.c.kernels import BinaryLayer

LEAST_OPERATIONS = 3
"""The fewest operations that are worth it."""


BANDS = 8, 4, 2
"""How many rows the first operation may compute in a step; the more, the fewer times are tables filled."""


@dataclass(frozen=True)
class Stream:
    """The first operations of a program, which run row by row.

    Attributes:
        bands: how many rows each of them computes in a step.
        lags: how many rows each is behind.
        lows: for an operation, by number, and a value that it reads: by how many rows the first row that it still reads
            lies below ``t`` times the band of the value.
        steps: how many there are.
    """

    bands: tuple[int, ...]
    lags: tuple[int, ...]
    lows: Mapping[tuple[int, str], int]
    steps: int

    def rows(self, index: int, variable: str, height: int) -> tuple[str, str]:
        """The C expressions of the first row of an operation in a step, and of the row after the last."""
        band, lag = self.bands[index], self.lags[index]
        first, end = (f"row_inside({band} * {variable} + {at - lag}, {height})" for at in (0, band))
        return first, end


def stream_of(program: Program, layers: Mapping[int, BinaryLayer], rows: int) -> Stream | None:
    """The operations at the begin of a program that can run row by row; None if they are too few.

    Args:
        program: a program in integers.
        layers: its binary convolutions, by the numbers of the operations.
        rows: how many rows the first operation computes in a step.
    """
    made: dict[str, int] = {}
    bands: list[int] = []
    lags: list[int] = []
    lows: dict[tuple[int, str], int] = {}
    steps = 0
    for index, op in enumerate(program.operations):
        inputs = [name for name in {*op.inputs, op.residual} if name is not None]
        if (index == 0) != (op.operation == PIXEL_CONVOLUTION) or any(name not in made for name in inputs):
            break
        if not _runs_by_rows(op, layers.get(index)):
            break
        band, lag = rows, 0
        if index > 0:
            source = made[op.inputs[0]]
            stride, above, below = _reach(op)
            if bands[source] % stride:
                break
            band, lag = bands[source] // stride, -(-(lags[source] + below) // stride)
            if op.residual is not None:
                lag = max(lag, lags[made[op.residual]])
                lows[index, op.residual] = lag
            lows[index, op.inputs[0]] = lag * stride + above
        bands.append(band)
        lags.append(lag)
        steps = max(steps, -(-(op.shape[1] + lag) // band))
        made |= {name: index for name in (op.real, op.bits) if name is not None}
    return Stream(tuple(bands), tuple(lags), lows, steps) if len(bands) >= LEAST_OPERATIONS else None


def _runs_by_rows(op: Operation, layer: BinaryLayer | None) -> bool:
    if op.operation == "pool":
        return not any(op.attributes["padding"]) and op.attributes["kernel"] == op.attributes["stride"]
    if op.operation == PIXEL_CONVOLUTION:
        return True
    plain = op.attributes.get("stride") == [1, 1] and op.attributes.get("dilation") == [1, 1]
    return plain and layer is not None and layer.by_tables and layer.blocks == 1


def _reach(op: Operation) -> tuple[int, int, int]:
    """The stride of an operation over rows, and how many rows above and below its own it reads."""
    if op.operation == "pool":
        return op.attributes["stride"][0], 0, 0
    above = op.attributes["padding"][0]
    return 1, above, op.tensors["weight"].shape[1] - 1 - above
