"""The graph between a traced torch module and a packed program: operations on the values of one image.

A value is a tensor of one image: real (float32), or bits (each -1 or +1). A node that works on images (C, H, W)
computes, in this order,

1. its operation, from its inputs;
2. ``multiplier * y + offset`` for each channel, if it has those tensors;
3. ``+ residual``, another value, if it has one;
4. its activation, if it has one;

and emits the result as a real value, as its signs, or as both. The passes move work into steps 2 to 4. A node that
works on arrays has the first step alone and emits a real value of any shape.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass
class Node:
    """One operation with its epilogue.

    Attributes:
        operation: one that `biper.runtime.program` defines.
        inputs: names of the values that the operation reads.
        shape: of the result.
        source: qualified name of the torch module that the node came from, for messages.
        real, bits: names of the values that it emits; at least one of them is there.
        residual: name of the value that is added.
        attributes: of the operation and of the activation.
        tensors: of the operation and of the epilogue.
    """

    operation: str
    inputs: list[str]
    shape: Shape
    source: str
    real: str | None = None
    bits: str | None = None
    residual: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def reads(self) -> list[str]:
        """Names of all values that the node reads, the residual included."""
        return self.inputs + ([self.residual] if self.residual is not None else [])

    @property
    def emits(self) -> list[str]:
        """Names of all values that the node emits."""
        return [name for name in (self.real, self.bits) if name is not None]

    def has_affine(self) -> bool:
        """Whether the node has step 2, a multiplier and an offset."""
        return "multiplier" in self.tensors

    def has_activation(self) -> bool:
        """Whether the node has step 4, an activation."""
        return "activation" in self.attributes


@dataclass
class Graph:
    """The nodes of a network, in the order in which they run. `change` alone changes what a node reads and emits.

    Attributes:
        input: name of the normalized image.
        input_shape: its shape (C, H, W).
        output: name of the result, a real value, or of the first of several.
        nodes: each reads values that the inputs or an earlier node gave.
        outputs: for a model with several results, the name of each and its value; else empty.
        inputs: the names and shapes of inputs other than the image.
    """

    input: str
    input_shape: Shape
    output: str
    nodes: list[Node]
    outputs: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    _found: _Uses | None = field(default=None, init=False, repr=False, compare=False)

    def is_output(self, value: str) -> bool:
        """Whether a value is a result of the model."""
        return value == self.output or value in self.outputs.values()

    def readers(self, value: str) -> list[Node]:
        """All nodes that read a value."""
        return list(self._uses().readers.get(value, {}).values())

    def producer(self, value: str) -> Node | None:
        """The node that emits a value; None for the input."""
        return self._uses().producers.get(value)

    def sole_reader(self, value: str) -> Node | None:
        """The only node that reads a value, if there is exactly one and the value is no output."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and not self.is_output(value) else None

    def change(self, node: Node, **values: Any) -> None:
        """Set what a node reads or emits: its ``inputs``, ``residual``, ``real`` or ``bits``."""
        uses = self._uses()
        uses.discard(node)
        for name, value in values.items():
            setattr(node, name, value)
        uses.add(node)

    def rename(self, old: str, new: str) -> None:
        """Make every reader of ``old`` read ``new``, the output included."""
        for node in self.readers(old):
            inputs = [new if name == old else name for name in node.inputs]
            self.change(node, inputs=inputs, residual=new if node.residual == old else node.residual)
        self.output = new if self.output == old else self.output
        self.outputs = {name: new if value == old else value for name, value in self.outputs.items()}

    def remove(self, node: Node) -> None:
        """Remove a node, by identity, because another node may be equal to it."""
        self._uses().discard(node)
        self.nodes = [other for other in self.nodes if other is not node]

    def replace(self, node: Node, other: Node) -> None:
        """Put another node in the place of a node."""
        uses = self._uses()
        uses.discard(node)
        uses.add(other)
        self.nodes = [other if each is node else each for each in self.nodes]

    def drop_unread(self) -> None:
        """Remove the values that no node reads, and the nodes that emit none after that."""
        reads = Counter(name for node in self.nodes for name in node.reads)
        kept = []
        for node in reversed(self.nodes):  # readers come after what they read
            for name in ("real", "bits"):
                value = getattr(node, name)
                if value is not None and not self.is_output(value) and not reads[value]:
                    setattr(node, name, None)
            if node.emits:
                kept.append(node)
            else:
                reads.subtract(node.reads)
        self.nodes, self._found = kept[::-1], None

    def _uses(self) -> _Uses:
        if self._found is None:
            self._found = _Uses()
            for node in self.nodes:
                self._found.add(node)
        return self._found


class _Uses:
    """Which nodes of a graph emit and read each value, so that a pass need not look at all nodes for each of them."""

    def __init__(self) -> None:
        self.producers: dict[str, Node] = {}
        self.readers: dict[str, dict[int, Node]] = {}

    def add(self, node: Node) -> None:
        """Note what a node emits and reads."""
        self.producers |= dict.fromkeys(node.emits, node)
        for value in node.reads:
            self.readers.setdefault(value, {})[id(node)] = node

    def discard(self, node: Node) -> None:
        """Forget what a node emits and reads."""
        for value in node.emits:
            self.producers.pop(value, None)
        for value in node.reads:
            self.readers.get(value, {}).pop(id(node), None)
