"""From a lowered graph to a packed program: bits are packed into bytes, weights converted to their stored type."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biper.lowering.graph import Graph, Node
from biper.runtime.bfloat16 import to_bfloat16
from biper.runtime.program import Operation, Program, pack_weight

RealType = type[np.float32] | type[np.float16] | Literal["bfloat16"]


def pack_graph(
    graph: Graph,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...],
    real_type: RealType = np.float32,
) -> Program:
    """Make the program of a graph.

    Values get short names: ``"v3"`` is the real result of operation 3, ``"b3"`` its bits.

    Args:
        graph: what `biper.lowering.lower` made.
        mean, std: of pixels scaled to [0, 1], one number for each channel.
        classes: a name for each output, or none.
        real_type: the type in which the weights of real convolutions are stored: one of NumPy, or ``"bfloat16"``.
    """
    names = {graph.input: "image"} | {name: name for name in graph.inputs}
    for number, node in enumerate(graph.nodes):
        names |= {value: f"{kind}{number}" for kind, value in (("v", node.real), ("b", node.bits)) if value is not None}
    return Program(
        input_shape=graph.input_shape,
        mean=mean,
        std=std,
        classes=classes,
        output=names[graph.output],
        operations=tuple(_operation(node, names, real_type) for node in graph.nodes),
        outputs={name: names[value] for name, value in graph.outputs.items()},
        inputs=graph.inputs,
    )


def _operation(node: Node, names: dict[str, str], real_type: RealType) -> Operation:
    attributes = dict(node.attributes)
    if node.operation == "pool":
        attributes["size"] = list(node.shape[1:])
    if node.operation == "resize":
        attributes |= {"height": node.shape[1], "width": node.shape[2]}
    return Operation(
        operation=node.operation,
        source=node.source,
        inputs=tuple(names[value] for value in node.inputs),
        shape=node.shape,
        real=None if node.real is None else names[node.real],
        bits=None if node.bits is None else names[node.bits],
        residual=None if node.residual is None else names[node.residual],
        attributes=attributes,
        tensors={name: _stored(node, name, array, real_type) for name, array in node.tensors.items()},
    )


def _stored(node: Node, name: str, array: NDArray[Any], real_type: RealType) -> NDArray[Any]:
    """A tensor of a node in the type that the packed file has."""
    if name in ("index", "value"):
        return np.asarray(array, order="C")
    if name == "flip":
        return array.astype(np.uint8)
    if name != "weight":
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return pack_weight(array)
    if node.operation != "convolution":
        return array.astype(np.float32)
    return to_bfloat16(array) if real_type == "bfloat16" else array.astype(real_type)
