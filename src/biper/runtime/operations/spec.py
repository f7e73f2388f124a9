"""The type of an entry in the table of operations: what an operation is called, checks and computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from biper.runtime.checks import Checker
from biper.runtime.program import Operation, Shape

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Tensors = Mapping[str, Array]


class Checked(NamedTuple):
    """The shape of an operation's result, and the names of the attributes and tensors that belong to the operation."""

    shape: Shape
    attributes: set[str]
    tensors: set[str]


Rule = Callable[[Checker, list[Shape], Attributes, Tensors], Checked]
"""Checks an operation, given the shapes of its inputs, its attributes and its tensors; returns what belongs to it."""

Compute = Callable[[Operation, list[Array]], Array]
"""Computes an operation. The inputs of an operation on images are (N, C, H, W); those of an operation on arrays are the
values of one image, of any shape."""


@dataclass(frozen=True)
class OperationSpec:
    """One operation of packed programs.

    Attributes:
        name: its name in the file.
        summary: what it computes, one sentence for the documentation.
        torch: for the documentation, the torch operators and options that a reader looks for under this operation. The
            list need not be complete: `biper.lowering.operators.HANDLERS` has every operator that is exported.
        rule: checks it and gives the shape of its result.
        compute: what it computes, in NumPy.
        on_images: whether it reads and makes images (C, H, W) and may have an epilogue. Other operations read and make
            arrays of any shape, have no epilogue, and emit one real value.
        inputs: the least and the largest number of values that it reads.
        work: how many elementary operations each element of the result takes, beside moving it; see
            `biper.runtime.budget`.
    """

    name: str
    summary: str
    torch: tuple[str, ...]
    rule: Rule
    compute: Compute
    on_images: bool = False
    inputs: tuple[int, int] = (1, 1)
    work: Callable[[list[Shape], Shape, Attributes, Tensors], int] = lambda *_: 4
