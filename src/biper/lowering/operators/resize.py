"""Handlers of interpolation to another length, height or width: nearest, linear, cubic and area."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.lowering.operators.sampling import sampled, taps_of
from biper.lowering.torch_nodes import keywords_of, sizes_of
from biper.lowering.tracer import Handler, Tracer
from biper.lowering.values import Value, shape_in


def _interpolate(tracer: Tracer, node: torch.fx.Node) -> Value:
    """An interpolation, axis by axis: what it does along an axis is asked of torch's own operator."""
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    matrices = [_matrix(node, axis, value.shape, shape) for axis in range(2, len(shape))]
    made = shape_in("image", shape)
    if (
        len(shape) == 4
        and made is not None
        and all(np.array_equal(matrix, _floor_matrix(*matrix.shape)) for matrix in matrices)
    ):
        return Value.image(shape, tracer.emit("resize", [tracer.image(value)], made))
    for axis, matrix in enumerate(matrices, start=2):
        value = sampled(tracer, value, axis, *taps_of(matrix))
    return value


def _floor_matrix(new: int, size: int) -> NDArray[np.float32]:
    """The map of the operation ``resize``, which reads place ``floor(i * size / new)``."""
    return np.eye(size, dtype=np.float32)[np.arange(new) * size // new]


def _matrix(node: torch.fx.Node, axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> NDArray[np.float32]:
    """The linear map (new, size) that torch's operator applies along one axis, found on the unit vectors.

    The other axes have two equal elements, which stay as they are. (With one element, torch 2.13 computes antialiased
    interpolation wrongly.)
    """
    axes = len(before) - 2
    size, new = before[axis], after[axis]
    lengths = [size if place == axis else 2 for place in range(2, len(before))]
    column = [size if place == axis else 1 for place in range(2, len(before))]
    units = torch.eye(size).reshape(size, 1, *column).expand(size, 1, *lengths).contiguous()
    target: Any = node.target
    known = keywords_of(node)
    known.pop(target._schema.arguments[0].name)
    given: dict[str, Any] = {}
    for name, value in known.items():
        if name == "output_size" and value is not None:
            given[name] = [new if place == axis else 2 for place in range(2, len(before))]
        elif name == "scale_factors" and value is not None:
            given[name] = [value[place] if place == axis - 2 else 1.0 for place in range(axes)]
        elif name.startswith("scales") and value is not None:
            place = {"scales_d": axes - 3, "scales_h": axes - 2, "scales_w": axes - 1, "scales": 0}[name]
            given[name] = value if place == axis - 2 else 1.0
        else:
            given[name] = value
    result: torch.Tensor = target(units, **given)
    for place in range(2, len(before)):
        if place != axis:
            result = result.narrow(place, 0, 1)
    return np.asarray(result.reshape(size, new).T, np.float32)


HANDLERS: Mapping[str, Handler] = dict.fromkeys(
    (
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
        "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    ),
    _interpolate,
)  # fmt: skip
