"""Handlers of real convolutions, linear layers and binary convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Node
from biper.lowering.tracer import Handler, Tracer, along_length, arguments_of, pair, shape_of, source_of


def _geometry(stride: Any, padding: list[int], dilation: Any, groups: int) -> dict[str, Any]:
    """The attributes of a convolution; ``padding`` is in torch's order: left, right, top, bottom."""
    left, right, top, bottom = padding
    return {
        "stride": pair(stride),
        "padding": [top, bottom, left, right],
        "dilation": pair(dilation),
        "groups": groups,
    }


def _convolution(tracer: Tracer, node: torch.fx.Node) -> str:
    x, weight, bias, stride, padding, dilation, groups = arguments_of(node, None, None, None, 1, 0, 1, 1)
    kernel = tracer.array(weight)
    if kernel is None:
        raise ExportError(f"{source_of(node)}: a convolution with computed weights is not supported")
    if isinstance(padding, str):
        totals = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(pair(dilation), kernel.shape[2:], strict=True)
        ]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    else:
        (top, left) = (bottom, right) = pair(padding)
    attributes = _geometry(stride, [left, right, top, bottom], dilation, groups)
    return _emit_convolution(tracer, node, x, kernel, tracer.array(bias), attributes)


def _convolution_of_signals(tracer: Tracer, node: torch.fx.Node) -> str:
    """A convolution of signals is one of images of height 1."""
    x, weight, bias, stride, padding, dilation, groups = arguments_of(node, None, None, None, 1, 0, 1, 1)
    kernel = tracer.array(weight)
    if kernel is None:
        raise ExportError(f"{source_of(node)}: a convolution with computed weights is not supported")
    (step,), (spread,) = along_length(stride), along_length(dilation)
    if isinstance(padding, str):
        total = spread * (kernel.shape[2] - 1) if padding == "same" else 0
        left, right = total // 2, total - total // 2
    else:
        (left,) = (right,) = along_length(padding)
    attributes = _geometry([1, step], [left, right, 0, 0], [1, spread], groups)
    return _emit_convolution(tracer, node, x, kernel[:, :, None], tracer.array(bias), attributes)


def _emit_convolution(
    tracer: Tracer,
    node: torch.fx.Node,
    x: Any,
    kernel: NDArray[Any],
    bias: NDArray[Any] | None,
    attributes: dict[str, Any],
) -> str:
    tensors = {"weight": kernel}
    if bias is not None:
        tensors |= {"multiplier": np.ones(len(bias), np.float32), "offset": bias}
    return tracer.emit(node, "convolution", [tracer.value(x, node)], attributes=attributes, tensors=tensors)


def _linear(tracer: Tracer, node: torch.fx.Node) -> str:
    """A linear layer is a 1x1 convolution of a map of one pixel."""
    x, weight, bias = arguments_of(node, None, None, None)
    matrix = tracer.array(weight)
    if matrix is None or len(node.meta["val"].shape) != 2:
        raise ExportError(f"{source_of(node)}: a linear layer on anything but (N, features) is not supported")
    attributes = _geometry(1, [0, 0, 0, 0], 1, 1)
    return _emit_convolution(tracer, node, x, matrix[:, :, None, None], tracer.array(bias), attributes)


def _binary_convolution(tracer: Tracer, node: torch.fx.Node) -> str:
    """The custom operator of `biper.lowering.custom_ops`; all layers that read the same value share its bits."""
    x, weight, scale, bias, stride, padding, dilation, groups, binary_input = arguments_of(node)
    source, scales = tracer.value(x, node), tracer.array(scale)
    kernel = tracer.constants[weight]
    assert scales is not None
    offset = tracer.array(bias)
    tensors = {"multiplier": scales, "offset": np.zeros_like(scales) if offset is None else offset}
    attributes = _geometry(stride, list(padding), dilation, groups)
    tensors["weight"] = np.asarray(kernel > 0)
    if not binary_input:
        return tracer.emit(node, "convolution", [source], attributes=attributes, tensors=tensors)
    bits = f"{source}.bits"
    if not any(other.bits == bits for other in tracer.nodes):
        shape = shape_of(x)
        tracer.nodes.append(Node("elementwise", [source], shape, source_of(node), bits=bits))
    return tracer.emit(node, "binary_convolution", [bits], attributes=attributes, tensors=tensors)


HANDLERS: Mapping[str, Handler] = {
    "conv1d": _convolution_of_signals,
    "conv2d": _convolution,
    "linear": _linear,
    "binary_conv2d": _binary_convolution,
}
