"""Handlers of operators that read or write a tensor at places that an index names.

A constant index is a fixed choice of elements. An index that is computed from the input is compared with every place of
its axis, so that each result is a sum in which one term is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Shape
from biper.lowering.operators.elementwise import along_axis, binary, choice
from biper.lowering.operators.parts import joined, part
from biper.lowering.operators.reductions import reduced
from biper.lowering.operators.sampling import sampled
from biper.lowering.operators.shapes import expanded, permuted, reshaped
from biper.lowering.torch_nodes import arguments_of, keywords_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Tracer
from biper.lowering.values import Value

MOST_COMPARISONS = 1 << 22
"""How many elements a computed index may be compared with, for one image."""

Places = NDArray[np.int64]


def _index_select(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, axis, index = arguments_of(node)
    places = tracer.raw_constant(index)
    value = tracer.value(x)
    if places is None:
        raise ExportError(f"{source_of(node)}: {node.target} by a computed index is not supported; use gather")
    axis %= len(value.shape)
    return sampled(tracer, value, axis, places.reshape(1, -1) % value.shape[axis])


def _constant_indices(tracer: Tracer, node: torch.fx.Node, indices: Sequence[Any], shape: Shape) -> list[Places | None]:
    """Constant index tensors as whole numbers from 0, one for each axis, or None where an axis is taken whole.

    Raises:
        ExportError: an index is computed.
    """
    found: list[Places | None] = []
    for index in indices:
        array = tracer.raw_constant(index)
        if index is not None and array is None:
            raise ExportError(
                f"{source_of(node)}: {node.target} by computed indices is not supported; use constant indices, or "
                "gather along one axis"
            )
        if array is None:
            found.append(None)
        elif array.dtype == np.bool_:
            found.extend(np.nonzero(array))
        else:
            found.append(array % shape[len(found)])
    return found


def _index(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``x[..., index, ...]`` with one or more constant index tensors; or the rows of a table by a computed index."""
    x, indices = arguments_of(node)
    if any(isinstance(index, torch.fx.Node) and index.meta["val"].dtype == torch.bool for index in indices):
        raise ExportError(
            f"{source_of(node)}: {node.target} by a mask gives as many elements as the mask has; index by whole "
            "numbers that the model makes in __init__, or use torch.where"
        )
    if len(indices) == 1 and tracer.constant(x) is not None and tracer.raw_constant(indices[0]) is None:
        return _rows_of_table(tracer, node, tracer.value(x), tracer.value(indices[0]))
    value = tracer.value(x)
    arrays = _constant_indices(tracer, node, indices, value.shape)
    axes = [axis for axis, array in enumerate(arrays) if array is not None]
    known = [array for array in arrays if array is not None]
    if axes != list(range(axes[0], axes[-1] + 1)):  # the result then begins with the axes of the indices
        others = [axis for axis in range(len(value.shape)) if axis not in axes]
        value = permuted(tracer, value, [*axes, *others])
        axes = list(range(len(axes)))
    first, last = axes[0], axes[-1]
    sizes = value.shape[first : last + 1]
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*known)), sizes)
    together = (*value.shape[:first], math.prod(sizes), *value.shape[last + 1 :])
    taken = sampled(tracer, reshaped(tracer, value, together), first, flat.reshape(1, -1))
    return reshaped(tracer, taken, sizes_of(node))


def _embedding(tracer: Tracer, node: torch.fx.Node) -> Value:
    table, index = arguments_of(node)[:2]
    places = tracer.raw_constant(index)
    if places is None:
        return _rows_of_table(tracer, node, tracer.value(table), tracer.value(index))
    return reshaped(tracer, sampled(tracer, tracer.value(table), 0, places.reshape(1, -1)), sizes_of(node))


def _rows_of_table(tracer: Tracer, node: torch.fx.Node, table: Value, index: Value) -> Value:
    """The rows of a table (N, ...) that are named by a computed index of any shape: (*index, ...)."""
    count, rest = table.shape[0], table.shape[1:]
    shape = (*index.shape, count, *rest)
    matches = _matches(tracer, node, index, len(index.shape), count, math.prod(rest))
    matches = reshaped(tracer, matches, (*index.shape, count, *[1] * len(rest)))
    values = choice(tracer, [matches, table, 0.0], shape)
    total = reduced(tracer, values, "sum", [len(index.shape)])
    return reshaped(tracer, total, (*index.shape, *rest))


def _matches(tracer: Tracer, node: torch.fx.Node, index: Value, axis: int, count: int, more: int = 1) -> Value:
    """1 where a computed index names a place, with a new axis of ``count`` places at ``axis``.

    Raises:
        ExportError: there would be too many elements, of which each stands for ``more``.
    """
    elements = math.prod(index.shape) * count * more
    if elements > MOST_COMPARISONS:
        raise ExportError(
            f"{source_of(node)}: {node.target} by a computed index makes {elements:,} comparisons, and at most "
            f"{MOST_COMPARISONS:,} are supported; use fewer places, or keep it out of the exported model"
        )
    apart = (*index.shape[:axis], 1, *index.shape[axis:])
    shape = (*index.shape[:axis], count, *index.shape[axis:])
    places = along_axis(tracer, range(count), len(shape) - axis - 1)
    return binary(tracer, "equal", reshaped(tracer, index, apart), places, shape)


def _gather(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``result[i][j] = x[i][index[i][j]]`` for axis 1, and alike for others."""
    x, axis, index = arguments_of(node)[:3]
    value, shape = tracer.value(x), sizes_of(node)
    axis %= len(value.shape)
    for other, size in enumerate(shape):
        if other != axis:
            value = part(tracer, value, other, 0, size)
    places = tracer.raw_constant(index)
    if places is not None:
        flat = _flat_places(places % value.shape[axis], axis, value.shape)
        whole = reshaped(tracer, value, (math.prod(value.shape),))
        return reshaped(tracer, sampled(tracer, whole, 0, flat.reshape(1, -1)), shape)
    count = value.shape[axis]
    matches = _matches(tracer, node, tracer.value(index), axis + 1, count)  # (.., K, N, ..)
    table = reshaped(tracer, value, (*shape[:axis], 1, count, *shape[axis + 1 :]))
    values = choice(tracer, [matches, table, 0.0], matches.shape)
    return reshaped(tracer, reduced(tracer, values, "sum", [axis + 1]), shape)


def _flat_places(index: NDArray[Any], axis: int, shape: Shape) -> Places:
    """The places in a flat tensor of this shape that the elements of an index along one axis name."""
    places = [index if other == axis else along for other, along in enumerate(np.indices(index.shape))]
    return np.asarray(np.ravel_multi_index(tuple(places), shape), np.int64)


def _scatter(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``x[i][index[i][j]] = source[i][j]`` for axis 1, and alike for others; ``scatter_add`` adds the source."""
    x, axis, index, source = arguments_of(node)[:4]
    value = tracer.value(x)
    axis %= len(value.shape)
    adds = operator_name(node) == "scatter_add"
    if node.kwargs.get("reduce") is not None or len(node.args) > 4:
        raise ExportError(f"{source_of(node)}: {node.target} with reduce is not supported; use scatter or scatter_add")
    places, sizes = tracer.raw_constant(index), sizes_of(index)
    if isinstance(source, torch.fx.Node):
        source = tracer.value(source)
        for other, size in enumerate(sizes):
            source = part(tracer, source, other, 0, size)
    if places is not None:
        if not isinstance(source, Value):
            source = Value.array((), tracer.stored(np.array(source, np.float32)))
        flat = _flat_places(places % value.shape[axis], axis, value.shape)
        return _written(tracer, value, flat, expanded(tracer, source, sizes), adds)
    if sizes[:axis] + sizes[axis + 1 :] != value.shape[:axis] + value.shape[axis + 1 :]:
        raise ExportError(
            f"{source_of(node)}: {node.target} by a computed index smaller than the tensor is not supported"
        )
    matches = _matches(tracer, node, tracer.value(index), axis + 1, value.shape[axis])
    if isinstance(source, Value):
        source = reshaped(tracer, source, (*sizes[: axis + 1], 1, *sizes[axis + 1 :]))
    terms = choice(tracer, [matches, source, 0.0], matches.shape)
    total = reshaped(tracer, reduced(tracer, terms, "sum", [axis]), value.shape)
    if adds:
        return binary(tracer, "add", value, total, value.shape)
    hit = reshaped(tracer, reduced(tracer, matches, "max", [axis]), value.shape)
    return choice(tracer, [hit, total, value], value.shape)


def _written(tracer: Tracer, value: Value, places: Places, source: Value, adds: bool) -> Value:
    """A value with the elements of a source written at places of the flat value, or added to what is there."""
    size = math.prod(value.shape)
    flat = reshaped(tracer, value, (size,))
    both = joined(tracer, [flat, reshaped(tracer, source, (places.size,))], 0, (size + places.size,))
    if not adds:
        index = np.arange(size)
        index[places.reshape(-1)] = size + np.arange(places.size)
        return reshaped(tracer, sampled(tracer, both, 0, index[None]), value.shape)
    terms: list[list[int]] = [[place] for place in range(size)]
    for number, place in enumerate(places.reshape(-1)):
        terms[place].append(size + number)
    most = max(map(len, terms))
    index = np.array([line + [0] * (most - len(line)) for line in terms]).T
    weight = np.array([[1.0] * len(line) + [0.0] * (most - len(line)) for line in terms], np.float32).T
    return reshaped(tracer, sampled(tracer, both, 0, index, weight), value.shape)


def _index_put(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``x[indices] = source``, or ``+=``, by constant indices; by a computed mask for a single number."""
    known = keywords_of(node)
    value, source = tracer.value(known["self"]), tracer.value(known["values"])
    indices, adds = known["indices"], bool(known.get("accumulate", False))
    (mask, *rest) = indices
    if isinstance(mask, torch.fx.Node) and mask.meta["val"].dtype == torch.bool and tracer.raw_constant(mask) is None:
        if rest or adds or math.prod(source.shape) != 1:
            raise ExportError(
                f"{source_of(node)}: {node.target} by a computed mask is supported for one number; use torch.where"
            )
        mask = reshaped(tracer, tracer.value(mask), (*sizes_of(mask), *[1] * (len(value.shape) - len(sizes_of(mask)))))
        return choice(tracer, [mask, reshaped(tracer, source, ()), value], value.shape)
    arrays = _constant_indices(tracer, node, indices, value.shape)
    everything = np.arange(math.prod(value.shape)).reshape(value.shape)
    places = everything[tuple(slice(None) if array is None else array for array in arrays)]
    return _written(tracer, value, places, expanded(tracer, source, places.shape), adds)


def _diagonal(tracer: Tracer, node: torch.fx.Node) -> Value:
    """The elements of two axes whose second index is the first plus an offset, as a last axis."""
    known = keywords_of(node)
    value, shape = tracer.value(known["self"]), sizes_of(node)
    rank = len(value.shape)
    first, second = known.get("dim1", 0) % rank, known.get("dim2", 1) % rank
    others = [axis for axis in range(rank) if axis not in (first, second)]
    offset, width = known.get("offset", 0), value.shape[second]
    places = np.arange(shape[-1]) * (width + 1) + (offset if offset >= 0 else -offset * width)
    turned = permuted(tracer, value, [*others, first, second])
    flat = reshaped(tracer, turned, (*shape[:-1], value.shape[first] * width))
    return sampled(tracer, flat, rank - 2, places[None])


HANDLERS: Mapping[str, Handler] = {
    "index_select": _index_select,
    **dict.fromkeys(("index", "_unsafe_index"), _index),
    "embedding": _embedding,
    "gather": _gather,
    **dict.fromkeys(("scatter", "scatter_add"), _scatter),
    **dict.fromkeys(("index_put", "_unsafe_index_put"), _index_put),
    **dict.fromkeys(("diagonal", "diagonal_copy"), _diagonal),
}
