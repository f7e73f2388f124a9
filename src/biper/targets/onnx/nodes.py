"""The nodes and constants of an ONNX graph while it is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


class Nodes:
    """Collects nodes and constants. Values of the program keep their names; names of what is between are numbered.

    Args:
        taken: names that other values of the graph have.
    """

    def __init__(self, taken: Collection[str]) -> None:
        self.taken = taken
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> str:
        """Add a node whose inputs are names or constants; returns the name of its output, a new one for None."""
        output = name or self._free(f"step{len(self.nodes)}")
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], name=f"node{len(self.nodes)}", **attributes))
        return output

    def constant(self, value: NDArray[Any], name: str | None = None) -> str:
        """Add a constant; returns its name, a new one for None."""
        chosen = name or self._free(f"constant{len(self.constants)}")
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), chosen))
        return chosen

    def rename_last(self, name: str) -> None:
        """Give the output of the last node, which nothing reads yet, another name."""
        self.nodes[-1].output[0] = name

    def _free(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        return name


def whole(numbers: Sequence[int]) -> NDArray[np.int64]:
    """Integers as operators take them: shapes, axes, starts."""
    return np.array(numbers, np.int64)
