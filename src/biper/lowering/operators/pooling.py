"""Handlers of max pooling and average pooling, global and adaptive pooling included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from biper.errors import ExportError
from biper.lowering.tracer import Handler, Tracer, along_length, arguments_of, pair, shape_of, source_of


def emit_pool(tracer: Tracer, node: torch.fx.Node, kind: str, kernel: Any, stride: Any, **rest: Any) -> str:
    """Emit a pool over the first argument of a torch node; returns the name of its value.

    Args:
        tracer: the walk that emits it.
        node: the torch node.
        kind: ``"max"`` or ``"average"``.
        kernel, stride: one number or two; a ``stride`` of None is the kernel's size.
        rest: attributes that differ from no padding, such as ``padding`` and ``count_padding``.
    """
    attributes = {
        "kind": kind,
        "kernel": pair(kernel),
        "stride": pair(stride or kernel),
        "padding": [0, 0],
        "count_padding": False,
    } | rest
    value = tracer.value(node.args[0], node)
    return tracer.emit(node, "pool", [value], attributes=attributes)


def _max_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, kernel, stride, padding, dilation, _ = arguments_of(node, None, None, None, 0, 1, False)
    if pair(dilation) != [1, 1]:
        raise ExportError(f"{source_of(node)}: max-pooling with dilation is not supported")
    return emit_pool(tracer, node, "max", kernel, stride, padding=pair(padding))


def _average_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, kernel, stride, padding, _, count, divisor = arguments_of(node, None, None, None, 0, False, True, None)
    if divisor is not None:
        raise ExportError(f"{source_of(node)}: average pooling with divisor_override is not supported")
    return emit_pool(tracer, node, "average", kernel, stride, padding=pair(padding), count_padding=bool(count))


def _max_pool_of_signals(tracer: Tracer, node: torch.fx.Node) -> str:
    """Max pooling of signals, which are images of height 1."""
    _, kernel, stride, padding, dilation, _ = arguments_of(node, None, None, None, 0, 1, False)
    if along_length(dilation) != [1]:
        raise ExportError(f"{source_of(node)}: max-pooling with dilation is not supported")
    return emit_pool(
        tracer, node, "max", [1, *along_length(kernel)], _of_length(stride), padding=[0, *along_length(padding)]
    )


def _average_pool_of_signals(tracer: Tracer, node: torch.fx.Node) -> str:
    """Average pooling of signals, which are images of height 1."""
    _, kernel, stride, padding, _, count = arguments_of(node, None, None, None, 0, False, True)
    padding = [0, *along_length(padding)]
    window = [1, *along_length(kernel)]
    return emit_pool(tracer, node, "average", window, _of_length(stride), padding=padding, count_padding=bool(count))


def _of_length(stride: Any) -> list[int] | None:
    """The stride of a pool of signals, (1, step); None where it is that of the kernel."""
    return [1, *along_length(stride)] if stride else None


def _adaptive_average_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, height, width = shape_of(arguments_of(node)[0])
    _, rows, columns = shape_of(node)
    if height % rows or width % columns:
        raise ExportError(
            f"{source_of(node)}: adaptive pooling of {height}x{width} to {rows}x{columns} is not supported; "
            "the output must divide the input"
        )
    kernel = [height // rows, width // columns]
    return emit_pool(tracer, node, "average", kernel, kernel)


def _mean(tracer: Tracer, node: torch.fx.Node) -> str:
    """A mean over height and width, or over the length of a signal, is a pool of one window."""
    x, dimensions, _ = arguments_of(node, None, None, False)
    rank = len(x.meta["val"].shape)
    places = {4: [2, 3], 3: [2]}.get(rank)
    if sorted(dimension % rank for dimension in dimensions) != places:
        raise ExportError(f"{source_of(node)}: a mean over anything but height and width, or length, is not supported")
    return emit_pool(tracer, node, "average", list(shape_of(x)[1:]), None)


def _largest(tracer: Tracer, node: torch.fx.Node) -> str:
    """The largest value over height and width, or over the length of a signal, is a pool of one window."""
    x, dimensions, _ = arguments_of(node, None, (), False)
    rank = len(x.meta["val"].shape)
    if sorted(dimension % rank for dimension in dimensions) != {4: [2, 3], 3: [2]}.get(rank):
        raise ExportError(
            f"{source_of(node)}: a maximum over anything but height and width, or length, is not supported"
        )
    return emit_pool(tracer, node, "max", list(shape_of(x)[1:]), None)


HANDLERS: Mapping[str, Handler] = {
    "max_pool1d": _max_pool_of_signals,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool1d": _average_pool_of_signals,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool1d": _adaptive_average_pool,
    "adaptive_avg_pool2d": _adaptive_average_pool,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "mean": _mean,
    "amax": _largest,
}
