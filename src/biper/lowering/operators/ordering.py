"""Handlers of operators that put the elements of an axis in order, or say where the largest is.

Packed files have no operation that sorts. A maximum and comparisons do: the largest element is taken as often as it is
asked for, or each element is compared with each other one and so knows its rank. Of equal elements the one that stands
first comes first. Places are whole numbers in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from biper.errors import ExportError
from biper.lowering.operators.elementwise import along_axis, binary, choice
from biper.lowering.operators.indexing import MOST_COMPARISONS
from biper.lowering.operators.parts import joined
from biper.lowering.operators.reductions import first_place, reduced
from biper.lowering.operators.shapes import reshaped
from biper.lowering.torch_nodes import keywords_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value

MOST_ROUNDS = 16
"""How many elements are found one after the other; for more, every element is compared with every other."""


def extreme_place(tracer: Tracer, value: Value, axis: int, largest: bool = True) -> tuple[Value, Value]:
    """The largest or smallest element along an axis and the first place where it stands; the axis stays with size 1."""
    found = reduced(tracer, value, "max" if largest else "min", [axis])
    return found, first_place(tracer, value, found, axis)


def _first(tracer: Tracer, value: Value, axis: int, count: int, largest: bool) -> tuple[Value, Value]:
    """The first ``count`` elements in order and their places: the extreme one, which is then taken out, and so on."""
    found, rest = [], value
    for number in range(count):
        extreme, place = extreme_place(tracer, rest, axis, largest)
        found.append((extreme, place))
        if number + 1 < count:
            numbers = along_axis(tracer, range(value.shape[axis]), len(value.shape) - axis - 1)
            here = binary(tracer, "equal", numbers, place, value.shape)
            rest = choice(tracer, [here, -math.inf if largest else math.inf, rest], value.shape)
    shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
    elements, places = (joined(tracer, [pair[side] for pair in found], axis, shape) for side in (0, 1))
    return elements, places


def _ranked(tracer: Tracer, value: Value, axis: int, ranks: range, largest: bool) -> tuple[Value, Value]:
    """The elements of some ranks and their places: an element's rank is how many of the others come before it."""
    shape, count = value.shape, value.shape[axis]
    lead, tail = shape[:axis], shape[axis + 1 :]
    elements = math.prod(shape) * max(count, len(ranks))
    if elements > MOST_COMPARISONS:
        raise ExportError(
            f"{source_of(tracer.node)}: {tracer.node.target} of {count} elements makes {elements:,} comparisons, and "
            f"at most {MOST_COMPARISONS:,} are supported; take the first {MOST_ROUNDS} by topk, or sort outside"
        )
    square = (*lead, count, count, *tail)  # (other element, element)
    one, other = reshaped(tracer, value, (*lead, 1, count, *tail)), reshaped(tracer, value, (*lead, count, 1, *tail))
    before = binary(tracer, "greater" if largest else "less", other, one, square)
    # 1 where the other element stands before the element.
    earlier = np.tri(count, k=-1, dtype=np.float32).T.reshape(count, count, *[1] * len(tail))
    tied = binary(tracer, "equal", other, one, square)
    tied = binary(tracer, "multiply", tied, Value.array(earlier.shape, tracer.stored(earlier)), square)
    rank = reduced(tracer, binary(tracer, "add", before, tied, square), "sum", [axis])
    wanted = along_axis(tracer, ranks, len(tail) + 1)
    chosen = (*lead, len(ranks), count, *tail)
    here = binary(tracer, "equal", rank, wanted, chosen)
    target = (*lead, len(ranks), *tail)
    results = []
    for source in (one, along_axis(tracer, range(count), len(tail))):
        terms = choice(tracer, [here, source, 0.0], chosen)
        results.append(reshaped(tracer, reduced(tracer, terms, "sum", [axis + 1]), target))
    return results[0], results[1]


def ordered(tracer: Tracer, value: Value, axis: int, ranks: range, largest: bool) -> tuple[Value, Value]:
    """The elements along an axis that have some ranks in order, and their places.

    Args:
        tracer: the walk.
        value: what is put in order.
        axis: along which.
        ranks: which elements, 0 for the first in order.
        largest: whether the largest comes first.
    """
    if ranks.start == 0 and len(ranks) <= MOST_ROUNDS and 4 * len(ranks) < value.shape[axis]:
        return _first(tracer, value, axis, len(ranks), largest)
    return _ranked(tracer, value, axis, ranks, largest)


def _sort(tracer: Tracer, node: torch.fx.Node) -> Result:
    known = keywords_of(node)
    value = tracer.value(known["self"])
    axis = known.get("dim", -1) % len(value.shape)
    return list(ordered(tracer, value, axis, range(value.shape[axis]), bool(known.get("descending", False))))


def _topk(tracer: Tracer, node: torch.fx.Node) -> Result:
    known = keywords_of(node)
    value = tracer.value(known["self"])
    axis = known.get("dim", -1) % len(value.shape)
    return list(ordered(tracer, value, axis, range(known["k"]), bool(known.get("largest", True))))


def _one_rank(tracer: Tracer, node: torch.fx.Node) -> Result:
    """``kthvalue`` and ``median``: the element of one rank, and its place."""
    known = keywords_of(node)
    value = tracer.value(known["self"])
    if "dim" not in known and operator_name(node) != "kthvalue":  # of all elements
        value = reshaped(tracer, value, (math.prod(value.shape),))
    axis = known.get("dim", -1) % len(value.shape)
    rank = known["k"] - 1 if "k" in known else (value.shape[axis] - 1) // 2
    found = ordered(tracer, value, axis, range(rank, rank + 1), largest=False)
    results: list[Value | None] = [reshaped(tracer, each, sizes_of(node)) for each in found]
    return results if isinstance(node.meta["val"], list | tuple) else results[:1]


def _extreme(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``argmax`` and ``argmin``."""
    known = keywords_of(node)
    value = tracer.value(known["self"])
    axis = known.get("dim")
    if axis is None:
        value, axis = reshaped(tracer, value, (math.prod(value.shape),)), 0
    _, place = extreme_place(tracer, value, axis % len(value.shape), operator_name(node) == "argmax")
    return reshaped(tracer, place, sizes_of(node))


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(("argmax", "argmin"), _extreme),
    "sort": _sort,
    "topk": _topk,
    **dict.fromkeys(("kthvalue", "median", "nanmedian"), _one_rank),
}
