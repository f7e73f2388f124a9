"""The operation ``sample``, which reads a value along one axis by an index, for handlers of every family."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.lowering.tracer import Tracer
from biper.lowering.values import Value, shape_in


def axes_in(value: Value, axis: int) -> tuple[str, int]:
    """The form in which an operation along one axis of a value is computed, and the axis of that form."""
    if "image" in value.names and axis > 0:
        return "image", {2: (0, 0), 3: (0, 0, 2), 4: (0, 0, 1, 2)}[len(value.shape)][axis]
    if "rows" in value.names and axis == len(value.shape) - 1:
        return "rows", 0
    return "array", axis


def sampled(
    tracer: Tracer,
    value: Value,
    axis: int,
    index: NDArray[Any],
    weight: NDArray[Any] | None = None,
    function: str = "sum",
) -> Value:
    """The operation ``sample`` along an axis: for each place of the result a weighted sum, or the largest.

    Args:
        tracer: the walk.
        value: what is read.
        axis: of the tensor of torch.
        index: (T, L), the places that are read for each of the L results.
        weight: (T, L), or None for weights of 1.
        function: ``"sum"`` or ``"max"``.
    """
    length = index.shape[1]
    if weight is None and len(index) == 1 and np.array_equal(index[0], np.arange(value.shape[axis])):
        return value
    shape = (*value.shape[:axis], length, *value.shape[axis + 1 :])
    form, place = axes_in(value, axis)
    target = shape_in(form, shape)
    assert target is not None
    tensors: dict[str, NDArray[Any]] = {"index": np.ascontiguousarray(index, np.int32)}
    if weight is not None:
        tensors["weight"] = np.ascontiguousarray(weight, np.float32)
    attributes = {"axis": place, "function": function}
    name = tracer.emit("sample", [tracer.form(form, value)], target, attributes=attributes, tensors=tensors)
    return Value(shape, {form: name})


def taps_of(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
    """The index and the weights of `sampled` for a linear map (L, S) of which each row has few entries.

    Args:
        matrix: element ``l`` of the result is ``sum over s of matrix[l, s] * x[s]``.

    Returns:
        The index (T, L) and the weights (T, L), which are None where every row has one entry, which is 1.
    """
    count = max(int((matrix != 0).sum(1).max()), 1)
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
    weight = np.take_along_axis(matrix, order, 1)
    return order.T.astype(np.int32), None if count == 1 and (weight == 1).all() else weight.T.astype(np.float32)
