"""What becomes of torch's operators with arithmetic: convolutions, linear layers, norms, sums, activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Node
from biper.lowering.trace import Tracer, arguments_of, handles, operator_name, pair, shape_of, source_of


def _geometry(stride: Any, padding: list[int], dilation: Any, groups: int) -> dict[str, Any]:
    """Attributes of a convolution; ``padding`` as torch pads: left, right, top, bottom."""
    left, right, top, bottom = padding
    return {
        "stride": pair(stride),
        "padding": [top, bottom, left, right],
        "dilation": pair(dilation),
        "groups": groups,
    }


@handles("conv2d")
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


@handles("linear")
def _linear(tracer: Tracer, node: torch.fx.Node) -> str:
    x, weight, bias = arguments_of(node, None, None, None)
    matrix = tracer.array(weight)
    if matrix is None or len(node.meta["val"].shape) != 2:
        raise ExportError(f"{source_of(node)}: a linear layer on anything but (N, features) is not supported")
    attributes = _geometry(1, [0, 0, 0, 0], 1, 1)
    return _emit_convolution(tracer, node, x, matrix[:, :, None, None], tracer.array(bias), attributes)


@handles("binary_conv2d")
def _binary_convolution(tracer: Tracer, node: torch.fx.Node) -> str:
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


@handles("_native_batch_norm_legit_no_training")
def _batch_norm(tracer: Tracer, node: torch.fx.Node) -> str:
    x, weight, bias, mean, variance, _, epsilon = arguments_of(node)
    means, variances = tracer.array(mean), tracer.array(variance)
    assert means is not None
    assert variances is not None
    scale = 1 / np.sqrt(variances.astype(np.float64) + epsilon)
    gamma, beta = tracer.array(weight), tracer.array(bias)
    multiplier = scale if gamma is None else scale * gamma
    offset = -means * multiplier + (0 if beta is None else beta)
    tensors = {"multiplier": multiplier.astype(np.float32), "offset": offset.astype(np.float32)}
    name = tracer.value(x, node)
    # The operator returns (result, mean, variance); a getitem node follows and is an alias.
    shape = shape_of(arguments_of(node)[0])
    tracer.nodes.append(Node("elementwise", [name], shape, source_of(node), real=node.name, tensors=tensors))
    return node.name


@handles("getitem")
def _getitem(tracer: Tracer, node: torch.fx.Node) -> str:
    source, index = arguments_of(node)
    if index != 0:
        raise ExportError(f"{source_of(node)}: result {index} of {source} is not supported")
    return tracer.value(source, node)


@handles("add", "sub", "rsub", "mul", "div")
def _arithmetic(tracer: Tracer, node: torch.fx.Node) -> str:
    kind = operator_name(node)
    left, right = arguments_of(node)[:2]
    if kind == "rsub":
        kind, left, right = "sub", right, left
    if node.kwargs.get("alpha", 1) != 1:
        raise ExportError(f"{source_of(node)}: {node.target} with alpha is not supported")
    constants = tracer.array(left), tracer.array(right)
    if constants[0] is None and constants[1] is None:
        if kind != "add":
            raise ExportError(f"{source_of(node)}: {kind} of two computed values is not supported; only their sum is")
        first, second = tracer.value(left, node), tracer.value(right, node)
        if shape_of(left) != shape_of(right):
            raise ExportError(
                f"{source_of(node)}: a sum of shapes {shape_of(left)} and {shape_of(right)} is not supported"
            )
        return tracer.emit(node, "elementwise", [first], residual=second)
    if kind == "div" and constants[1] is None:
        raise ExportError(f"{source_of(node)}: division by a computed value is not supported")
    constant = _per_channel(constants[1] if constants[1] is not None else constants[0], node)
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if kind == "sub" and constants[1] is None:
        multiplier, offset = -one, constant
    else:
        multiplier, offset = {
            "add": (one, constant),
            "sub": (one, -constant),
            "mul": (constant, zero),
            "div": (one / constant, zero),
        }[kind]
    value = tracer.value(left if constants[1] is not None else right, node)
    return tracer.emit(node, "elementwise", [value], tensors={"multiplier": multiplier, "offset": offset})


def _per_channel(constant: NDArray[Any] | None, node: torch.fx.Node) -> NDArray[np.float32]:
    """A constant that broadcasts over (1, C, H, W) or (1, F) as C numbers."""
    assert constant is not None
    shape = shape_of(node)
    rank = len(node.meta["val"].shape)
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    if len(sizes) != rank or sizes[0] != 1 or any(size != 1 for size in sizes[2:]) or sizes[1] not in (1, shape[0]):
        raise ExportError(
            f"{source_of(node)}: a constant of shape {constant.shape} beside {shape} is not supported; "
            "it must be one number, or one a channel"
        )
    return np.broadcast_to(constant.reshape(-1), shape[0]).astype(np.float32)


@handles("hardtanh", "relu", "prelu", "_prelu_kernel", "relu6")
def _activation(tracer: Tracer, node: torch.fx.Node) -> str:
    name = operator_name(node)
    tensors: dict[str, NDArray[Any]] = {}
    attributes: dict[str, Any]
    if name == "hardtanh":
        _, low, high = arguments_of(node, None, -1.0, 1.0)
        attributes = {"activation": "clip", "low": float(low), "high": float(high)}
    elif name == "relu6":
        attributes = {"activation": "clip", "low": 0.0, "high": 6.0}
    elif name == "relu":
        attributes = {"activation": "relu"}
    else:
        slope = tracer.array(arguments_of(node)[1])
        if slope is None:
            raise ExportError(f"{source_of(node)}: a PReLU with computed slopes is not supported")
        tensors["slope"] = np.broadcast_to(slope.reshape(-1), shape_of(node)[0]).astype(np.float32)
        attributes = {"activation": "prelu"}
    return tracer.emit(node, "elementwise", [tracer.value(node.args[0], node)], attributes=attributes, tensors=tensors)
