"""What a packed program may cost: memory and work, which are derived from shapes before anything is allocated for them.

The memory of a program is the sum of three parts: its tensors; its header, whose JSON takes about 32 bytes of memory a
byte; and the values of one image that are needed at the same time, plus all results. Values that operations on images
make have their channels padded to a multiple of 16. The native engine adds its own copies of the weights and its
scratch memory, and refuses a program that goes beyond the same limit.

Work is counted in elementary operations, each of which takes about as long as a multiply-accumulate of one channel in
a kernel that computes 16 channels at once: about a tenth of a nanosecond on a core of a desktop computer, about half a
nanosecond on a telephone. The function of an element counts as 4 to 64 of them, a value that is moved as 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from biper.runtime.checks import Checker
from biper.runtime.program import Operation, Shape
from biper.runtime.views import rounded

MAX_MEMORY = 1 << 30
"""The default of ``max_memory``, in bytes: what a telephone can give to one program."""

MAX_WORK = 1 << 38
"""The default of ``max_work``, in elementary operations for one image: up to two minutes of a telephone's core."""

UNLIMITED = 1 << 62
"""A limit that nothing reaches, for programs that this process made itself."""

HEADER_FACTOR = 32
"""How many bytes of memory a byte of JSON takes at most, once it is read."""

MAX_HEADER = 8 << 20
"""The largest header of a packed file, in bytes. One with 10,000 operations has about half of that."""

_FLOAT = 4
_MOVED = 4


class Budget:
    """Counts the memory and the work of a program while it is read, and refuses it when a limit is passed.

    Args:
        max_memory: bytes.
        max_work: elementary operations for one image.
        check: its ``where`` names what is being read, for the error message.
    """

    def __init__(self, max_memory: int, max_work: int, check: Checker) -> None:
        self.max_memory, self.max_work, self.check = max_memory, max_work, check
        self.memory = self.work = 0

    def add_memory(self, count: int, what: str) -> None:
        """Count bytes that are taken for the whole time; ``what`` says for what, for the error message.

        Raises:
            ModelFormatError: more than ``max_memory`` bytes are taken.
        """
        self.memory += count
        self.check.require(
            self.memory <= self.max_memory,
            f"needs {self.memory:,} bytes of memory with {what}, more than max_memory={self.max_memory:,} allows",
        )

    def add_work(self, count: int) -> None:
        """Count elementary operations.

        Raises:
            ModelFormatError: there are more than ``max_work``.
        """
        self.work += count
        self.check.require(
            self.work <= self.max_work,
            f"brings the work for one image to {self.work:,} elementary operations, more than max_work="
            f"{self.max_work:,} allows",
        )

    def add_operation(self, inputs: Sequence[Shape], shape: Shape, each: int, *, on_images: bool) -> None:
        """Count the work of an operation.

        Args:
            inputs: the shapes of the values that it reads.
            shape: the shape of its result.
            each: the elementary operations for each element of the result; see `OperationSpec.work`.
            on_images: whether it computes channels in blocks of 16.
        """
        moved = sum(math.prod(size) for size in inputs) * _MOVED
        self.add_work(moved + elements(shape, on_images) * (each + _MOVED))

    def add_values(
        self, operations: Sequence[Operation], inputs: Mapping[str, Shape], results: Sequence[str], images: set[str]
    ) -> None:
        """Count the memory of the values: the most that are needed at the same time, and a copy of each result.

        Args:
            operations: in the order of execution.
            inputs: the shapes of the values that the program is given.
            results: the values that it returns.
            images: the names of the values whose channels are padded to blocks of 16.

        Raises:
            ModelFormatError: more than ``max_memory`` bytes are needed.
        """
        sizes = {name: _FLOAT * elements(shape, name in images) for name, shape in inputs.items()}
        last_read = dict.fromkeys(sizes, -1)
        for number, op in enumerate(operations):
            for name in (*op.inputs, op.residual):
                if name is not None:
                    last_read[name] = number
            for name, bits in ((op.real, 1), (op.bits, 32)):
                if name is not None:
                    sizes[name] = _FLOAT * elements(op.shape, name in images) // bits
                    last_read[name] = number
        for name in results:
            last_read[name] = len(operations)
            self.add_memory(sizes[name], "its results")
        ends: dict[int, int] = {}
        for name, number in last_read.items():
            ends[number] = ends.get(number, 0) + sizes[name]
        alive = most = sum(sizes[name] for name in inputs)
        alive -= ends.get(-1, 0)
        for number, op in enumerate(operations):
            alive += sum(sizes[name] for name in (op.real, op.bits) if name is not None)
            most = max(most, alive)
            alive -= ends.get(number, 0)
        self.add_memory(most, "the values of one image")


def elements(shape: Shape, is_image: bool) -> int:
    """The number of elements of a value; those of an image (C, H, W) with C rounded up to a multiple of 16."""
    return math.prod((rounded(shape[0]), *shape[1:]) if is_image and len(shape) == 3 else shape)
