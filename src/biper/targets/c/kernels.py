"""Which C operator computes a binary convolution: it depends on what each costs on a processor that cannot count bits.

Costs are instructions of a Cortex-M3, fitted to counts of the emulator; `examples/cortex_m/run.py --profile` prints
the counts of a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from biper.runtime.program import Program

UNIT = 16
"""The inputs in a unit of bits, and the output channels that share a table."""

MOST_CHANNELS = 241
"""Fewer channels than these have an input whose bits are looked up."""

MOST_ROWS = 7
"""The most rows of a kernel whose inputs are looked up."""

TABLE_BYTES = 512
"""The table of one unit."""


@dataclass(frozen=True)
class BinaryLayer:
    """The sizes of a binary convolution of one group.

    Attributes:
        units: how many units all taps of a kernel read.
        outputs: channels of the result.
        pixels: of the result.
        products: of signs in a sum.
        kernel_rows: rows of a kernel.
        channels: of the input.
        tables: whether tables may be used, which take memory.
    """

    units: int
    outputs: int
    pixels: int
    products: int
    kernel_rows: int
    channels: int
    tables: bool = True

    @property
    def blocks(self) -> int:
        """How many tables the output channels need, one after the other."""
        return -(-self.outputs // UNIT)

    @property
    def lookup_instructions(self) -> float:
        """By tables: they are filled for each 16 output channels, then read at each pixel."""
        return self.blocks * (350 * self.units + self.pixels * (32 * self.units + 590))

    @property
    def counting_instructions(self) -> float:
        """By counting bits, two units in a word, for each output channel."""
        return self.pixels * self.outputs * (14 * self.units + 70)

    @property
    def passes(self) -> int:
        """Over the rows of a kernel, one table each, where that and all counts take less memory than one table."""
        return self.kernel_rows if self._table_bytes(self.kernel_rows) < self._table_bytes(1) else 1

    def _table_bytes(self, passes: int) -> int:
        return TABLE_BYTES * self.units // passes + (2 * UNIT * self.pixels if passes > 1 else 0)

    @property
    def scratch_bytes(self) -> int:
        """The memory of the operator that is faster without an instruction that counts bits."""
        return max(self._table_bytes(self.passes), self.window_bytes) if self.by_tables else self.window_bytes

    @property
    def window_bytes(self) -> int:
        """What counting needs: the window of a pixel and its mask."""
        return 8 * -(-self.units // 2)

    @property
    def by_tables(self) -> bool:
        """Whether tables are faster; sums of a pixel of the input have 8 bits, those of all taps 16."""
        fits = (
            self.tables
            and UNIT * self.units <= 0xFFFF
            and self.channels < MOST_CHANNELS
            and self.kernel_rows <= MOST_ROWS
        )
        return fits and self.lookup_instructions < self.counting_instructions


def binary_layers(program: Program, *, tables: bool = True) -> dict[int, BinaryLayer]:
    """The sizes of all binary convolutions of one group, by the numbers of the operations; see `BinaryLayer.tables`."""
    found = {}
    for index, op in enumerate(program.operations):
        if op.operation == "binary_convolution" and op.attributes["groups"] == 1:
            kernel, channels = op.tensors["weight"].shape[1:3], program.shapes[op.inputs[0]][0]
            units, products = -(-channels // UNIT) * math.prod(kernel), channels * math.prod(kernel)
            pixels = math.prod(op.shape[1:])
            found[index] = BinaryLayer(units, op.shape[0], pixels, products, kernel[0], channels, tables)
    return found
