"""Offsets: a constant that is added to each channel of a value moves into the nodes that read the value.

ReActNet's activation, ``prelu(x - shift) + offset``, and its sign, ``sign(x - threshold)``, add a constant three times
for each layer. Where every reader of a value can add the constant itself, at no cost, no node adds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biper.lowering.graph import Graph, Node

Offset = NDArray[np.float32]


def move_offsets_(graph: Graph) -> None:
    """Move offsets into the nodes that read what they are added to, in place; the graph computes the same.

    A node that reads the value as its residual, or that does nothing but its epilogue, adds the constant in its affine.
    Pools, and what pads, joins or resizes images, pass the constant on, if the nodes behind them can take it.
    """
    for node in list(graph.nodes):
        if _adds_only(node) and node.operation == "elementwise" and node.real is not None:
            if _can_take(graph, node.real):
                _move(graph, node.real, node.tensors["offset"])
                graph.rename(node.real, node.inputs[0])
                graph.remove(node)
        elif node.operation == "elementwise" and node.residual is None and _is_shift(node):
            _into_producer(graph, node)


def drop_zero_shifts_(graph: Graph) -> None:
    """Remove the nodes that add 0 to every channel, in place: those of thresholds and shifts that were not trained.

    Adding 0 turns -0 into 0, which signs, sums and convolutions do not tell apart; a value that something else reads,
    such as an arctangent, stays.
    """
    for node in list(graph.nodes):
        if node.operation != "elementwise" or not _is_shift(node) or node.tensors["offset"].any():
            continue
        if _adds_only(node) and node.real is not None and graph.producer(node.inputs[0]) is not None:
            if graph.is_output(node.real) or not all(
                _ignores_minus_0(each, node.real) for each in graph.readers(node.real)
            ):
                continue
            graph.rename(node.real, node.inputs[0])
            graph.remove(node)
        elif node.residual is None and not node.has_activation() and node.real is None:
            del node.tensors["multiplier"], node.tensors["offset"]


def _ignores_minus_0(reader: Node, value: str) -> bool:
    """Whether a node computes the same where its input is -0 as where it is 0."""
    convolves = reader.operation in ("convolution", "binary_convolution")
    return convolves or reader.residual == value or (reader.bits is not None and reader.real is None)


def _is_shift(node: Node) -> bool:
    """Whether the affine of a node only adds."""
    return node.has_affine() and bool(np.all(node.tensors["multiplier"] == 1))


def _adds_only(node: Node) -> bool:
    """Whether a node does nothing but add a constant to its input."""
    return _is_shift(node) and node.residual is None and not node.has_activation() and node.bits is None


def _into_producer(graph: Graph, node: Node) -> None:
    """Let the producer of a node's input add the constant, before its residual, if nothing else reads that input."""
    producer = graph.producer(node.inputs[0])
    if producer is None or graph.sole_reader(node.inputs[0]) is not node:
        return
    if producer.has_affine() and producer.bits is None and not producer.has_activation():
        producer.tensors["offset"] = producer.tensors["offset"] + node.tensors["offset"]
        del node.tensors["multiplier"], node.tensors["offset"]


def _keeps_offsets(node: Node) -> bool:
    """Whether a constant in front of a node's operation is the same constant, or that of some channels, behind it."""
    if node.operation == "pool":  # a mean over padding counts zeros, which the constant does not change
        padded = any(node.attributes["padding"]) and node.attributes["count_padding"]
        return node.attributes["kind"] == "max" or not padded
    return node.operation in ("elementwise", "pad_channels", "resize")


def _behind(node: Node, offset: Offset) -> Offset:
    """The constant behind the operation of a node, in front of which it is ``offset``; see `_keeps_offsets`."""
    if node.operation == "pad_channels":
        return np.pad(offset, (node.attributes["before"], node.attributes["after"]))
    return offset


def _only_passes_on(node: Node) -> bool:
    """Whether a node has no epilogue."""
    return not (node.has_affine() or node.residual is not None or node.has_activation() or node.bits is not None)


def _can_take(graph: Graph, value: str) -> bool:
    """Whether every reader of a value can add a constant to it in an affine that it has already."""
    if graph.is_output(value):
        return False
    for reader in graph.readers(value):
        if reader.residual == value:
            taken = value not in reader.inputs and reader.has_affine()
        elif _keeps_offsets(reader):
            taken = reader.has_affine()
            if _only_passes_on(reader) and reader.real is not None:
                taken = _can_take(graph, reader.real)
        else:
            taken = False
        if not taken:
            return False
    return True


def _move(graph: Graph, value: str, offset: Offset) -> None:
    """Add a constant to what every reader of a value computes; `_can_take` says that they can."""
    for reader in graph.readers(value):
        if reader.residual == value:
            reader.tensors["offset"] = reader.tensors["offset"] + offset
        elif reader.has_affine():
            moved = reader.tensors["multiplier"] * _behind(reader, offset)
            reader.tensors["offset"] = reader.tensors["offset"] + moved
        else:
            _move(graph, reader.real or "", _behind(reader, offset))
