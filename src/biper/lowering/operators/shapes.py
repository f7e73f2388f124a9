"""Handlers of operators that move values without changing them: slices, channel padding, concatenation, reshapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from biper.errors import ExportError
from biper.lowering.operators.pooling import emit_pool
from biper.lowering.tracer import Handler, Tracer, arguments_of, shape_of, source_of


def _slice(tracer: Tracer, node: torch.fx.Node) -> str:
    """Every n-th row or column, as a pool of single pixels with stride n; a slice of everything is its input."""
    x, dimension, start, stop, step = arguments_of(node, None, 0, None, None, 1)
    shape = tuple(x.meta["val"].shape)
    if start in (None, 0) and step == 1 and (stop is None or stop >= shape[dimension]):
        return tracer.value(x, node)
    whole = start in (None, 0) and (stop is None or stop >= shape[dimension])
    if not whole or dimension not in (2, 3):
        raise ExportError(f"{source_of(node)}: a slice is supported only as x[:, :, ::step, ::step]")
    return emit_pool(tracer, node, "max", 1, [step, 1] if dimension == 2 else [1, step])


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


def _concatenate(tracer: Tracer, node: torch.fx.Node) -> str:
    parts, dimension = arguments_of(node, None, 0)
    if dimension % len(node.meta["val"].shape) != 1:
        raise ExportError(f"{source_of(node)}: concatenation is supported only of channels")
    if len(parts) == 1:
        return tracer.value(parts[0], node)
    return tracer.emit(node, "concatenate", [tracer.value(part, node) for part in parts])


def _reshape(tracer: Tracer, node: torch.fx.Node) -> str:
    before, after = shape_of(arguments_of(node)[0]), shape_of(node)
    if before == after:
        return tracer.value(node.args[0], node)
    if after[1:] != (1, 1):
        raise ExportError(f"{source_of(node)}: a reshape from {before} to {after} is not supported; only flattening is")
    return tracer.emit(node, "flatten", [tracer.value(node.args[0], node)])


def _identity(tracer: Tracer, node: torch.fx.Node) -> str:
    """An operator that changes nothing in evaluation mode: its value is its input's."""
    return tracer.value(node.args[0], node)


HANDLERS: Mapping[str, Handler] = {
    "slice": _slice,
    "cat": _concatenate,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad_channels),
    **dict.fromkeys(("view", "reshape", "flatten", "_unsafe_view", "unsqueeze", "squeeze"), _reshape),
    **dict.fromkeys(("clone", "detach", "dropout", "contiguous", "alias", "_to_copy", "lift_fresh_copy"), _identity),
}
