"""The graph that export works on: operations on values of one image, from tracing to the packed program.

A value is one image's tensor of shape (C, H, W), real (float32) or bits (each -1 or +1). Vectors of features are
(F, 1, 1). A node computes, in this order,

1. its operation, from its inputs;
2. ``multiplier * y + offset`` for each channel, if it has those tensors;
3. ``+ residual``, another value, if it has one;
4. its activation, if it has one;

and hands the result on as a real value, as its signs, or as both. The passes move work into steps 2 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Shape = tuple[int, int, int]


@dataclass
class Node:
    """One operation, its epilogue, and what it emits: ``real`` and ``bits`` name values, and at least one is there."""

    operation: str
    inputs: list[str]
    shape: Shape
    source: str
    """Qualified name of the module that it came from, for messages."""
    real: str | None = None
    bits: str | None = None
    residual: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def reads(self) -> list[str]:
        """All values that the node needs."""
        return self.inputs + ([self.residual] if self.residual is not None else [])

    @property
    def emits(self) -> list[str]:
        """All values that the node makes."""
        return [name for name in (self.real, self.bits) if name is not None]

    def has_affine(self) -> bool:
        """Whether step 2 does anything."""
        return "multiplier" in self.tensors

    def has_activation(self) -> bool:
        """Whether step 4 does anything."""
        return "activation" in self.attributes


@dataclass
class Graph:
    """Nodes in the order in which they run; ``input`` is the normalized image, ``output`` the real result."""

    input: str
    input_shape: Shape
    output: str
    nodes: list[Node]

    def readers(self, value: str) -> list[Node]:
        """The nodes that read a value."""
        return [node for node in self.nodes if value in node.reads]

    def producer(self, value: str) -> Node | None:
        """The node that makes a value; None for the input."""
        return next((node for node in self.nodes if value in node.emits), None)

    def sole_reader(self, value: str) -> Node | None:
        """The only node that reads a value, if there is exactly one and the value is not the output."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and value != self.output else None

    def rename(self, old: str, new: str) -> None:
        """Let every reader of ``old`` read ``new``."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.residual = new if node.residual == old else node.residual
        self.output = new if self.output == old else self.output

    def remove(self, node: Node) -> None:
        """Drop a node (by identity: equal nodes may stand elsewhere)."""
        self.nodes = [other for other in self.nodes if other is not node]

    def drop_unread(self) -> None:
        """Drop the values that nobody reads, and the nodes that are left without any."""
        changed = True
        while changed:
            changed = False
            for node in reversed(self.nodes):
                for name in ("real", "bits"):
                    value = getattr(node, name)
                    if value is not None and value != self.output and not self.readers(value):
                        setattr(node, name, None)
                        changed = True
                if not node.emits:
                    self.remove(node)
                    changed = True
