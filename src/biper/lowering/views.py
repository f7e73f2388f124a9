"""In-place operators on views: `torch.export` writes them as scatters into the whole tensor, which are undone here."""

from __future__ import annotations

from typing import Any

import torch

from biper.lowering.torch_nodes import arguments_of, operator_name

_WHOLE = 2**63 - 1
"""The end that torch writes for "to the last element"."""


def undo_scattered_views_(graph: torch.fx.Graph) -> None:
    """Replace each slice of a tensor that was just scattered into that slice by what was scattered, in place.

    ``relu_(x[:, ::2])`` becomes ``y = relu(x[:, ::2])``, ``z = slice_scatter(x, y, ...)`` and, wherever the view is
    read, a slice of ``z``, which is ``y``. Scatters whose whole result is read stay in the graph.
    """
    for node in graph.nodes:
        if node.op != "call_function" or operator_name(node) != "slice":
            continue
        base, *place = arguments_of(node, None, 0, None, None, 1)
        if not isinstance(base, torch.fx.Node) or base.op != "call_function":
            continue
        if operator_name(base) == "slice_scatter":
            _, scattered, *where = arguments_of(base, None, None, 0, None, None, 1)
            if _normal(place) == _normal(where):
                node.replace_all_uses_with(scattered)


def _normal(place: list[Any]) -> list[Any]:
    """Dimension, start, end and step of a slice, with one way to write a start and an end that cut nothing off."""
    dimension, start, end, step = place
    return [dimension, start or 0, _WHOLE if end is None or end >= _WHOLE else end, step]
