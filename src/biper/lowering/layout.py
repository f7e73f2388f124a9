"""What becomes of torch's operators without arithmetic of their own: pooling, padding, concatenation, shapes."""

from __future__ import annotations

from typing import Any

import torch

from biper.errors import ExportError
from biper.lowering.trace import Tracer, arguments_of, handles, pair, shape_of, source_of


def _pool(tracer: Tracer, node: torch.fx.Node, kind: str, kernel: Any, stride: Any, **rest: Any) -> str:
    attributes = {
        "kind": kind,
        "kernel": pair(kernel),
        "stride": pair(stride or kernel),
        "padding": [0, 0],
        "count_padding": False,
    } | rest
    value = tracer.value(node.args[0], node)
    return tracer.emit(node, "pool", [value], attributes=attributes)


@handles("max_pool2d", "max_pool2d_with_indices")
def _max_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, kernel, stride, padding, dilation, _ = arguments_of(node, None, None, None, 0, 1, False)
    if pair(dilation) != [1, 1]:
        raise ExportError(f"{source_of(node)}: max-pooling with dilation is not supported")
    return _pool(tracer, node, "max", kernel, stride, padding=pair(padding))


@handles("avg_pool2d")
def _average_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, kernel, stride, padding, _, count, divisor = arguments_of(node, None, None, None, 0, False, True, None)
    if divisor is not None:
        raise ExportError(f"{source_of(node)}: average pooling with divisor_override is not supported")
    return _pool(tracer, node, "average", kernel, stride, padding=pair(padding), count_padding=bool(count))


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_average_pool(tracer: Tracer, node: torch.fx.Node) -> str:
    _, height, width = shape_of(arguments_of(node)[0])
    _, rows, columns = shape_of(node)
    if height % rows or width % columns:
        raise ExportError(
            f"{source_of(node)}: adaptive pooling of {height}x{width} to {rows}x{columns} is not supported; "
            "the output must divide the input"
        )
    kernel = [height // rows, width // columns]
    return _pool(tracer, node, "average", kernel, kernel)


@handles("mean")
def _mean(tracer: Tracer, node: torch.fx.Node) -> str:
    x, dimensions, _ = arguments_of(node, None, None, False)
    rank = len(x.meta["val"].shape)
    if rank != 4 or sorted(dimension % rank for dimension in dimensions) != [2, 3]:
        raise ExportError(f"{source_of(node)}: a mean over anything but height and width is not supported")
    return _pool(tracer, node, "average", list(shape_of(x)[1:]), None)


@handles("slice")
def _slice(tracer: Tracer, node: torch.fx.Node) -> str:
    """Every so-many-th row or column, which is a pooling of single pixels; a slice of everything is nothing."""
    x, dimension, start, stop, step = arguments_of(node, None, 0, None, None, 1)
    shape = tuple(x.meta["val"].shape)
    if start in (None, 0) and step == 1 and (stop is None or stop >= shape[dimension]):
        return tracer.value(x, node)
    whole = start in (None, 0) and (stop is None or stop >= shape[dimension])
    if not whole or dimension not in (2, 3):
        raise ExportError(f"{source_of(node)}: a slice is supported only as x[:, :, ::step, ::step]")
    return _pool(tracer, node, "max", 1, [step, 1] if dimension == 2 else [1, step])


@handles("pad", "constant_pad_nd")
def _pad_channels(tracer: Tracer, node: torch.fx.Node) -> str:
    x, amounts, *rest = arguments_of(node)
    rank = len(x.meta["val"].shape)
    pads = list(amounts) + [0] * (2 * rank - len(amounts))
    channel = 2 * (rank - 2)
    before, after = pads[channel : channel + 2]
    others = pads[:channel] + pads[channel + 2 :]
    value = next((extra for extra in rest if isinstance(extra, int | float)), node.kwargs.get("value")) or 0
    if any(others) or value != 0 or min(before, after) < 0:
        raise ExportError(f"{source_of(node)}: padding is supported only of channels and with zeros")
    return tracer.emit(
        node, "pad_channels", [tracer.value(x, node)], attributes={"before": int(before), "after": int(after)}
    )


@handles("cat")
def _concatenate(tracer: Tracer, node: torch.fx.Node) -> str:
    parts, dimension = arguments_of(node, None, 0)
    if dimension % len(node.meta["val"].shape) != 1:
        raise ExportError(f"{source_of(node)}: concatenation is supported only of channels")
    return tracer.emit(node, "concatenate", [tracer.value(part, node) for part in parts])


@handles("view", "reshape", "flatten", "_unsafe_view", "unsqueeze", "squeeze")
def _reshape(tracer: Tracer, node: torch.fx.Node) -> str:
    before, after = shape_of(arguments_of(node)[0]), shape_of(node)
    if before == after:
        return tracer.value(node.args[0], node)
    if after[1:] != (1, 1):
        raise ExportError(f"{source_of(node)}: a reshape from {before} to {after} is not supported; only flattening is")
    return tracer.emit(node, "flatten", [tracer.value(node.args[0], node)])


@handles("upsample_nearest2d")
def _resize(tracer: Tracer, node: torch.fx.Node) -> str:
    return tracer.emit(node, "resize", [tracer.value(node.args[0], node)])


@handles("clone", "detach", "dropout", "contiguous", "alias", "_to_copy", "lift_fresh_copy")
def _nothing(tracer: Tracer, node: torch.fx.Node) -> str:
    return tracer.value(node.args[0], node)
