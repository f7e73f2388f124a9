"""Folding: constants move into weights and thresholds, so that a program computes less at run time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biper.lowering.graph import Graph, Node
from biper.runtime.operations import OPERATIONS


def fold_multipliers_(graph: Graph) -> None:
    """Multiply real weights by their multipliers, in place; offsets stay. Weights that are bits keep a multiplier."""
    for node in graph.nodes:
        if node.operation == "convolution" and node.has_affine() and node.tensors["weight"].dtype != np.bool_:
            multiplier = node.tensors.pop("multiplier")
            node.tensors["weight"] = node.tensors["weight"] * multiplier[:, None, None, None]


def fold_flattening_(graph: Graph) -> None:
    """Turn a linear layer on a flattened (C, H, W) map into a convolution with an H x W kernel, in place."""
    for node in list(graph.nodes):
        if node.operation not in ("convolution", "binary_convolution") or not _is_linear(node):
            continue
        flatten = graph.producer(node.inputs[0])
        if flatten is None or not _only_flattens(flatten):
            continue
        before = graph.producer(flatten.inputs[0])
        shape = graph.input_shape if before is None else before.shape
        if graph.sole_reader(node.inputs[0]) is not node:
            continue
        if node.operation == "convolution":
            graph.change(node, inputs=list(flatten.inputs))
        elif flatten.real is None and before and before.bits is None and OPERATIONS[before.operation].on_images:
            bits = flatten.bits
            graph.change(flatten, bits=None)
            graph.change(before, bits=bits)
        else:
            continue
        weight = node.tensors["weight"]
        node.tensors["weight"] = np.ascontiguousarray(weight.reshape(weight.shape[0], *shape))
        graph.drop_unread()


def _is_linear(node: Node) -> bool:
    """Whether a convolution of a map of one pixel multiplies that pixel by a matrix: no other taps, no groups."""
    taps, alone = node.tensors["weight"].shape[2:], node.attributes.get("groups", 1) == 1
    return taps == (1, 1) and alone and not any(node.attributes.get("padding", ()))


def _only_flattens(node: Node) -> bool:
    """Whether the node flattens, and its epilogue does nothing but take signs."""
    return node.operation == "flatten" and not (node.has_affine() or node.residual or node.has_activation())


def fold_thresholds_(graph: Graph) -> None:
    """Give thresholds to binary convolutions of which only the bits are used, in place of their affine.

    ``multiplier * sum + offset >= 0``, as float32 computes it, becomes ``(sum >= threshold) != flip``, with one
    integer and one bit for each channel. This covers negative multipliers, whose bits are flipped, and multipliers of
    0, whose bits are always or never +1.
    """
    for node in graph.nodes:
        if node.operation != "binary_convolution" or node.real is not None or node.residual or node.has_activation():
            continue
        weight = node.tensors["weight"]
        largest = int(np.prod(weight.shape[1:]))
        threshold, flip = integer_thresholds(node.tensors.pop("multiplier"), node.tensors.pop("offset"), largest)
        node.tensors |= {"threshold": threshold, "flip": flip}


def integer_thresholds(
    multiplier: NDArray[np.float32], offset: NDArray[np.float32], largest: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Find thresholds for sums from ``-largest`` to ``largest``; `fold_thresholds_` says what they are for.

    Args:
        multiplier, offset: (channels,) float32.
        largest: the largest possible sum.

    Returns:
        threshold (channels,) int32, and flip (channels,) bool.
    """
    flip = multiplier < 0
    low = np.full(len(multiplier), -largest, np.int64)
    high = np.full(len(multiplier), largest + 1, np.int64)
    while np.any(low < high):  # bisection: float32 arithmetic is monotone in the sum
        middle = (low + high) // 2
        positive = (multiplier * middle.astype(np.float32) + offset >= 0) != flip
        low, high = np.where(positive, low, middle + 1), np.where(positive, middle, high)
    never = (multiplier == 0) & (offset < 0)
    return np.where(never, largest + 1, low).astype(np.int32), flip
