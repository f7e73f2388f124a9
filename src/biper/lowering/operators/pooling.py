"""Handlers of max pooling and average pooling of one, two and three dimensions, also global and adaptive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.lowering.graph import Shape
from biper.lowering.operators.elementwise import binary
from biper.lowering.operators.sampling import sampled
from biper.lowering.torch_nodes import arguments_of, operator_name, pair, sizes_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value, shape_in


def emit_pool(tracer: Tracer, value: Value, shape: Shape, kind: str, kernel: Any, stride: Any, **rest: Any) -> Value:
    """Emit a pool over the height and width of an image; returns its value.

    Args:
        tracer: the walk that emits it.
        value: what is pooled.
        shape: of the result in torch.
        kind: ``"max"`` or ``"average"``.
        kernel, stride: one number or two.
        rest: attributes that differ from no padding: ``padding`` and ``count_padding``.
    """
    attributes = {
        "kind": kind,
        "kernel": pair(kernel),
        "stride": pair(stride),
        "padding": [0, 0],
        "count_padding": False,
    } | rest
    made = shape_in("image", shape)
    assert made is not None
    return Value.image(shape, tracer.emit("pool", [tracer.image(value)], made, attributes=attributes))


def _numbers(value: Any, count: int) -> list[int]:
    """A number for each axis, which torch writes as one number or as a list of one or of all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _pool(tracer: Tracer, node: torch.fx.Node, kind: str, arguments: Sequence[Any]) -> Value:
    """A pool with arguments (kernel, stride, padding, dilation, count_padding, divisor) as in torch."""
    kernel, stride, padding, dilation, count, divisor = arguments
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    axes = _numbers_of_axes(operator_name(node))
    kernels = _numbers(kernel, axes)
    strides = _numbers(stride, axes) if stride else kernels
    pads, spread = _numbers(padding, axes), _numbers(dilation, axes)
    if axes < 3 and spread == [1] * axes and divisor is None and shape_in("image", value.shape) is not None:
        lead = [1] * (2 - axes)
        return emit_pool(
            tracer, value, shape, kind, lead + kernels, lead + strides,
            padding=[0] * (2 - axes) + pads, count_padding=bool(count),
        )  # fmt: skip
    first = len(shape) - axes
    counts = np.ones(())
    for number in range(axes):
        axis = first + number
        places, valid, padded = _windows(
            value.shape[axis], shape[axis], kernels[number], strides[number], pads[number], spread[number]
        )
        counts = np.multiply.outer(counts, padded if count else valid.sum(0))
        weight = valid.astype(np.float32) if kind == "average" else None
        value = sampled(tracer, value, axis, places, weight, "sum" if kind == "average" else "max")
    if kind == "max":
        return value
    factor = 1 / (counts if divisor is None else np.full(counts.shape, divisor))
    return _times(tracer, value, factor.astype(np.float32))


def _times(tracer: Tracer, value: Value, factor: NDArray[np.float32]) -> Value:
    """A value times a constant that broadcasts over its last axes."""

    return binary(tracer, "multiply", value, Value.array(factor.shape, tracer.stored(factor)), value.shape)


def _numbers_of_axes(name: str) -> int:
    return int(name.split("d_with")[0].rstrip("d")[-1])


def _windows(
    size: int, count: int, kernel: int, stride: int, pad: int, dilation: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """The places (T, L) that the windows of a pool read along one axis; taps outside read another of their window.

    Returns:
        The places; which of them are inside, (T, L); and how many taps of each window are inside the padded axis, (L,).
    """
    places = np.arange(count)[None] * stride - pad + np.arange(kernel)[:, None] * dilation
    valid = (places >= 0) & (places < size)
    inside = np.take_along_axis(places, valid.argmax(0)[None], 0)
    return np.where(valid, places, inside), valid, (places < size + pad).sum(0)


def _max_pool(tracer: Tracer, node: torch.fx.Node) -> Result:
    _, kernel, stride, padding, dilation, _ = arguments_of(node, None, None, None, 0, 1, False)
    value = _pool(tracer, node, "max", (kernel, stride, padding, dilation, False, None))
    return [value, None] if "with_indices" in operator_name(node) else value


def _average_pool(tracer: Tracer, node: torch.fx.Node) -> Value:
    _, kernel, stride, padding, _, count, divisor = arguments_of(node, None, None, None, 0, False, True, None)
    return _pool(tracer, node, "average", (kernel, stride, padding, 1, count, divisor))


def _adaptive(tracer: Tracer, node: torch.fx.Node, kind: str) -> Value:
    """Adaptive pooling: window ``i`` of ``n`` reads from ``floor(i S / n)`` to ``ceil((i + 1) S / n)``."""
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    axes = _numbers_of_axes(operator_name(node))
    first = len(shape) - axes
    before, after = value.shape[first:], shape[first:]
    if (
        axes < 3
        and shape_in("image", value.shape) is not None
        and not any(size % new for size, new in zip(before, after, strict=True))
    ):
        kernel = [1] * (2 - axes) + [size // new for size, new in zip(before, after, strict=True)]
        return emit_pool(tracer, value, shape, kind, kernel, kernel)
    for axis in range(first, len(shape)):
        size, new = value.shape[axis], shape[axis]
        starts = np.arange(new) * size // new
        ends = -(-(np.arange(new) + 1) * size // new)
        taps = np.arange((ends - starts).max())[:, None] + starts
        valid = taps < ends
        weight = (valid / (ends - starts)).astype(np.float32) if kind == "average" else None
        value = sampled(
            tracer, value, axis, np.where(valid, taps, starts), weight, "sum" if weight is not None else "max"
        )
    return value


def _adaptive_average_pool(tracer: Tracer, node: torch.fx.Node) -> Value:
    return _adaptive(tracer, node, "average")


def _adaptive_max_pool(tracer: Tracer, node: torch.fx.Node) -> Result:
    return [_adaptive(tracer, node, "max"), None]


HANDLERS: Mapping[str, Handler] = {
    **{f"max_pool{axes}d{suffix}": _max_pool for axes in (1, 2, 3) for suffix in ("", "_with_indices")},
    **{f"avg_pool{axes}d": _average_pool for axes in (1, 2, 3)},
    **{f"{lead}adaptive_avg_pool{axes}d": _adaptive_average_pool for axes in (1, 2, 3) for lead in ("", "_")},
    **{f"adaptive_max_pool{axes}d": _adaptive_max_pool for axes in (1, 2, 3)},
}
