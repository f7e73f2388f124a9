"""Fusion: elementwise nodes move into the epilogue of the node that makes their input.

An epilogue is an affine, a residual, an activation, then the real value, the bits or both; `biper.lowering.graph`
defines it. A node can be absorbed where its steps come after those that its producer already has.
"""

from __future__ import annotations

import numpy as np

from biper.lowering.graph import Graph, Node
from biper.runtime.operations import OPERATIONS


def fuse_epilogues_(graph: Graph) -> None:
    """Absorb elementwise nodes into their producers until no more can be, in place; the graph computes the same."""
    while [node for node in list(graph.nodes) if node.operation == "elementwise" and _absorb(graph, node)]:
        pass  # a node that is absorbed can leave its value to one reader, so that an earlier node can follow
    graph.drop_unread()


def _absorb(graph: Graph, node: Node) -> bool:
    """Merge a node into the producer of one of its inputs; returns whether that was possible."""
    candidates = [(node.inputs[0], node.residual)]
    if node.residual is not None and not node.has_affine():
        candidates.append((node.residual, node.inputs[0]))  # a sum can be fused from either side
    for source, residual in candidates:
        producer = graph.producer(source)
        if producer is None or producer.real != source or source == residual:
            continue
        if not OPERATIONS[producer.operation].on_images:
            continue
        if node.bits is not None and _only_signs(node):
            if producer.bits is None:
                bits = node.bits
                graph.remove(node)
                graph.change(producer, bits=bits)
            else:
                graph.rename(node.bits, producer.bits)
                graph.remove(node)
            return True
        if graph.sole_reader(source) is node and _follows(producer, node, residual):
            _merge(graph, producer, node, residual)
            return True
    return False


def _only_signs(node: Node) -> bool:
    """Whether the node does nothing but take signs."""
    return node.real is None and node.residual is None and not node.has_affine() and not node.has_activation()


def _follows(producer: Node, node: Node, residual: str | None) -> bool:
    """Whether all steps of ``node`` come after those of ``producer``."""
    if producer.bits is not None or producer.has_activation():
        return False
    return producer.residual is None or (residual is None and not node.has_affine())


def _merge(graph: Graph, producer: Node, node: Node, residual: str | None) -> None:
    """Put the steps of ``node`` into the epilogue of its producer, and remove ``node``."""
    if node.has_affine():
        multiplier, offset = node.tensors["multiplier"], node.tensors["offset"]
        if producer.has_affine():
            multiplier, offset = (
                producer.tensors["multiplier"] * multiplier,
                producer.tensors["offset"] * multiplier + offset,
            )
        producer.tensors |= {"multiplier": multiplier, "offset": offset}
    if node.has_activation():
        producer.attributes |= node.attributes
        producer.tensors |= {name: node.tensors[name] for name in ("slope",) if name in node.tensors}
    # The residual may be made after the producer, so the merged node runs where the absorbed node ran.
    graph.remove(producer)
    producer.real, producer.bits = node.real, node.bits
    if residual is not None:
        producer.residual = residual
    graph.replace(node, producer)


def drop_activations_before_signs_(graph: Graph) -> None:
    """Remove activations that change no sign from nodes of which only the bits are used, in place."""
    for node in graph.nodes:
        if node.real is None and node.has_activation() and _keeps_signs(node):
            for key in ("activation", "low", "high"):
                node.attributes.pop(key, None)
            node.tensors.pop("slope", None)


def _keeps_signs(node: Node) -> bool:
    """Whether ``activation(y) >= 0`` exactly when ``y >= 0``."""
    if node.attributes["activation"] == "clip":
        return bool(node.attributes["low"] < 0 <= node.attributes["high"])
    return node.attributes["activation"] == "prelu" and bool(np.all(node.tensors["slope"] > 0))
