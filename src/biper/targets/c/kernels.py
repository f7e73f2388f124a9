"""Which C operator computes a binary convolution: it depends on what each costs on a processor that cannot count bits.

Costs are instructions of a Cortex-M3, fitted to counts of the emulator; `examples/cortex_m/run.py --profile` prints
the counts of a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from biper.runtime.program import Operation, Shape

UNIT = 16
"""The inputs in a unit of bits, and the output channels that share a table."""

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
    """

    units: int
    outputs: int
    pixels: int
    products: int

    @property
    def blocks(self) -> int:
        """How many tables the output channels need, one after the other."""
        return -(-self.outputs // UNIT)

    @property
    def lookup_instructions(self) -> float:
        """By tables: they are filled for each 16 output channels, then read at each pixel."""
        return self.blocks * (350 * self.units + self.pixels * (32 * self.units + 100))

    @property
    def counting_instructions(self) -> float:
        """By counting bits, two units in a word, for each output channel."""
        return self.pixels * (12 * self.units + self.outputs * (11.5 * self.units + 20))

    @property
    def scratch_bytes(self) -> int:
        """The memory of the operator that is faster without an instruction that counts bits."""
        return TABLE_BYTES * self.units if self.by_tables else self.window_bytes

    @property
    def window_bytes(self) -> int:
        """What counting needs: the window of a pixel and its mask."""
        return 8 * -(-self.units // 2)

    @property
    def by_tables(self) -> bool:
        """Whether tables are faster; their sums have 16 bits."""
        return self.products <= 0xFFFF and self.lookup_instructions < self.counting_instructions


def binary_layer(op: Operation, reads: Shape) -> BinaryLayer | None:
    """The sizes of an operation, if it is a binary convolution of one group."""
    if op.operation != "binary_convolution" or op.attributes["groups"] != 1:
        return None
    taps = math.prod(op.tensors["weight"].shape[1:3])
    return BinaryLayer(-(-reads[0] // UNIT) * taps, op.shape[0], math.prod(op.shape[1:]), reads[0] * taps)
