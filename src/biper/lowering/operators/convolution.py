"""Handlers of real convolutions, transposed ones too, and of binary convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Node, Shape
from biper.lowering.operators.parts import padded
from biper.lowering.operators.sampling import sampled
from biper.lowering.operators.shapes import permuted, reshaped
from biper.lowering.torch_nodes import along_length, arguments_of, pair, sizes_of, source_of
from biper.lowering.tracer import Handler, Tracer
from biper.lowering.values import Value, shape_in


def geometry(stride: Any, padding: Sequence[int], dilation: Any, groups: int) -> dict[str, Any]:
    """The attributes of a convolution; ``padding`` is in torch's order: left, right, top, bottom."""
    left, right, top, bottom = padding
    return {
        "stride": pair(stride),
        "padding": [top, bottom, left, right],
        "dilation": pair(dilation),
        "groups": groups,
    }


def _convolution(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, weight, bias, stride, padding, dilation, groups = arguments_of(node, None, None, None, 1, 0, 1, 1)
    return _convolved(tracer, node, x, weight, bias, stride, padding, dilation, groups)


def _convolved(
    tracer: Tracer,
    node: torch.fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Value:
    """A convolution of images, of signals, which are images of height 1, or of volumes, which are many images."""
    kernel = _kernel(tracer, node, weight, most=5)
    if kernel.ndim == 5:
        settings = (stride, padding, dilation)
        return _convolved_volume(tracer, node, tracer.value(x), kernel, tracer.constant(bias), settings, groups)
    rank = kernel.ndim - 1  # of one image or signal with its channels
    if kernel.ndim == 3:
        kernel = kernel[:, :, None]
        stride, dilation = [1, *along_length(stride)], [1, *along_length(dilation)]
        padding = padding if isinstance(padding, str) else [0, *along_length(padding)]
    if isinstance(padding, str):
        totals = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(pair(dilation), kernel.shape[2:], strict=True)
        ]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    else:
        (top, left) = (bottom, right) = pair(padding)
    value, count = merged_images(tracer, tracer.value(x), kernel, rank)
    attributes = geometry(stride, [left, right, top, bottom], dilation, groups * count)
    return _emit_merged(tracer, value, count, kernel, tracer.constant(bias), attributes, rank)


def _convolved_volume(
    tracer: Tracer,
    node: torch.fx.Node,
    value: Value,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    settings: Sequence[Any],
    groups: int,
) -> Value:
    """A convolution of (1, C, D, H, W): each slice of the result is that of an image with the channels of K slices.

    Args:
        tracer: the walk.
        node: the torch node.
        value: the volume.
        kernel: (O, C / groups, K, height, width).
        bias: (O,) or None.
        settings: stride, padding and dilation, each one number or three; padding may be ``"same"`` or ``"valid"``.
        groups: the number of groups.
    """
    given: list[list[Any]] = [[item] if isinstance(item, int | str) else list(item) for item in settings]
    strides, pads, spread = (item * (3 // len(item)) for item in given)
    sides = []
    for pad, size, step in zip(pads, kernel.shape[2:], spread, strict=True):
        total = step * (size - 1) if pad == "same" else 0
        sides.append((total // 2, total - total // 2) if isinstance(pad, str) else (pad, pad))
    (front, back), (top, bottom), (left, right) = sides
    value = padded(tracer, value, [0, 0, 0, 0, front, back])
    shape, taps = sizes_of(node), kernel.shape[2]
    depth = shape[2]
    places = np.arange(depth)[:, None] * strides[0] + np.arange(taps) * spread[0]
    channels, height, width = value.shape[1], *value.shape[3:]
    slices = reshaped(
        tracer, sampled(tracer, value, 2, places.reshape(1, -1)), (1, channels, depth, taps, height, width)
    )
    slices = permuted(tracer, slices, [0, 2, 1, 3, 4, 5])
    images = reshaped(tracer, slices, (1, depth, channels * taps, height, width))
    flat = kernel.reshape(len(kernel), -1, *kernel.shape[3:])
    merged, count = merged_images(tracer, images, flat, 3)
    attributes = geometry(strides[1:], [left, right, top, bottom], spread[1:], groups * count)
    result = _emit_merged(tracer, merged, count, flat, bias, attributes, 3, (1, depth, shape[1], *shape[3:]))
    return permuted(tracer, result, [0, 2, 1, 3, 4])


LARGEST_MERGED = 2**26
"""How many weights a convolution of several images may have, which has its kernel once for each of them."""


def merged_images(tracer: Tracer, value: Value, kernel: NDArray[Any], rank: int) -> tuple[Value, int]:
    """One image whose channels are those of several, such as the windows or frames of an image; and their number.

    A convolution of all of them is one with as many times the groups, and the kernel repeated.

    Args:
        tracer: the walk.
        value: (..., C, H, W), or (..., C, L) of signals.
        kernel: the weights of the convolution.
        rank: of one image with its channels: 3 or 2.

    Raises:
        ExportError: the repeated kernels are too large.
    """
    lead, (channels, *sizes) = value.shape[:-rank], value.shape[-rank:]
    if lead == (1,):
        return value, 1
    count = math.prod(lead)
    if count * kernel.size > LARGEST_MERGED:
        raise ExportError(
            f"{source_of(tracer.node)}: {tracer.node.target} of {count} images at once, which are parts of one, is not "
            f"supported with {kernel.size:,} weights; use fewer parts or a smaller convolution"
        )
    return reshaped(tracer, value, (1, count * channels, *sizes)), count


def _emit_merged(
    tracer: Tracer,
    value: Value,
    count: int,
    kernel: NDArray[Any],
    bias: NDArray[Any] | None,
    attributes: dict[str, Any],
    rank: int,
    shape: Shape | None = None,
) -> Value:
    """A convolution of what `merged_images` made; its result has this shape, or that which torch gives to it."""
    shape = sizes_of(tracer.node) if shape is None else shape
    merged = (1, count * shape[-rank], *shape[len(shape) - rank + 1 :])
    if count > 1:
        kernel = np.tile(kernel, (count, 1, 1, 1))
        bias = None if bias is None else np.tile(bias, count)
    return reshaped(tracer, emit_convolution(tracer, tracer.image(value), merged, kernel, bias, attributes), shape)


def _kernel(tracer: Tracer, node: torch.fx.Node, weight: Any, most: int = 4) -> NDArray[np.float32]:
    """The weights of a convolution, which must be constant and have at most so many axes.

    Raises:
        ExportError: they are computed from the image, or have more axes.
    """
    kernel = tracer.constant(weight)
    if kernel is None:
        raise ExportError(f"{source_of(node)}: a convolution with computed weights is not supported; use matmul")
    if kernel.ndim > most:
        raise ExportError(
            f"{source_of(node)}: a transposed convolution of {kernel.ndim - 2} dimensions is not supported; write it "
            "as transposed convolutions of one or two dimensions"
        )
    return kernel


def emit_convolution(
    tracer: Tracer,
    source: str,
    shape: Shape,
    kernel: NDArray[Any],
    bias: NDArray[Any] | None,
    attributes: dict[str, Any],
    form: str = "image",
) -> Value:
    """Emit a convolution whose result is a form of a tensor of this shape."""
    tensors = {"weight": kernel}
    if bias is not None:
        tensors |= {"multiplier": np.ones(len(bias), np.float32), "offset": bias}
    made = shape_in(form, shape)
    if made is None:
        raise ExportError(
            f"{source_of(tracer.node)}: {tracer.node.target} gives shape {shape}, expected one image or one signal"
        )
    name = tracer.emit("convolution", [source], made, attributes=attributes, tensors=tensors)
    return Value(shape, {form: name})


def _transposed(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, weight, bias, stride, padding, output_padding, groups, dilation = arguments_of(
        node, None, None, None, 1, 0, 0, 1, 1
    )
    return _convolved_transposed(tracer, node, x, weight, bias, stride, padding, output_padding, groups, dilation)


def _convolved_transposed(
    tracer: Tracer,
    node: torch.fx.Node,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Value:
    """A transposed convolution: zeros between the pixels, then a convolution with the kernel turned around.

    With stride s, dilation d, padding p and output padding o, ``s - 1`` zeros stand between pixels, ``d (k - 1) - p``
    before the first and ``d (k - 1) - p + o`` after the last.
    """
    kernel = _kernel(tracer, node, weight)
    settings = (stride, padding, output_padding, dilation)
    return _transposed_by(tracer, tracer.value(x), kernel, tracer.constant(bias), settings, groups)


def _transposed_by(
    tracer: Tracer,
    value: Value,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    settings: Sequence[Any],
    groups: int,
) -> Value:
    """A transposed convolution of a value; ``settings`` are stride, padding, output padding and dilation."""
    rank = kernel.ndim - 1
    if kernel.ndim == 3:
        kernel = kernel[:, :, None]
        settings = [[first, *along_length(item)] for first, item in zip((1, 0, 0, 1), settings, strict=True)]
    strides, pads, extra, spread = (pair(item) for item in settings)
    low = [d * (k - 1) - p for d, k, p in zip(spread, kernel.shape[2:], pads, strict=True)]
    high = [before + more for before, more in zip(low, extra, strict=True)]
    value, count = merged_images(tracer, value, kernel, rank)
    shape = shape_in("image", value.shape)
    assert shape is not None
    interior = [step - 1 for step in strides]
    sizes = tuple(n + (n - 1) * i + a + b for n, i, a, b in zip(shape[1:], interior, low, high, strict=True))
    ends = {"low": [0, *low], "high": [0, *high], "interior": [0, *interior], "value": 0.0}
    source = tracer.emit("pad", [tracer.image(value)], (shape[0], *sizes), attributes=ends)
    spread_out = Value.image((1, shape[0], *sizes), source)
    inside, outside = kernel.shape[0] // groups, kernel.shape[1]
    grouped = kernel.reshape(groups, inside, outside, *kernel.shape[2:]).swapaxes(1, 2)[..., ::-1, ::-1]
    turned = np.ascontiguousarray(grouped.reshape(groups * outside, inside, *kernel.shape[2:]))
    attributes = geometry(1, [0, 0, 0, 0], spread, groups * count)
    return _emit_merged(tracer, spread_out, count, turned, bias, attributes, rank)


def _fold(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``fold`` (``col2im``): sums of overlapping windows, a transposed convolution with one tap for each channel."""
    x, size, kernel, dilation, padding, stride = arguments_of(node)
    value, shape = tracer.value(x), sizes_of(node)
    settings = zip(size, padding, dilation, kernel, stride, strict=True)
    maps = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in settings]
    taps = int(np.prod(kernel))
    weight = np.tile(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel), (shape[-3], 1, 1, 1))
    columns = reshaped(tracer, value, (*shape[:-3], shape[-3] * taps, *maps))
    extra = [
        n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, m, p, d, k, s in zip(size, maps, padding, dilation, kernel, stride, strict=True)
    ]
    return _transposed_by(tracer, columns, weight, None, (stride, padding, extra, dilation), shape[-3])


def _general(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``aten.convolution``, which is both kinds."""
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = arguments_of(node)
    if transposed:
        return _convolved_transposed(tracer, node, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolved(tracer, node, x, weight, bias, stride, padding, dilation, groups)


def _binary_convolution(tracer: Tracer, node: torch.fx.Node) -> Value:
    """The custom operator of `biper.lowering.custom_ops`; all layers that read the same value share its bits."""
    x, weight, scale, bias, stride, padding, dilation, groups, binary_input = arguments_of(node)
    kernel, scales, offset = tracer.raw_constant(weight), tracer.constant(scale), tracer.constant(bias)
    assert kernel is not None
    assert scales is not None
    value, count = merged_images(tracer, tracer.value(x), kernel, 3)
    source = tracer.image(value)
    tensors = {"multiplier": scales, "offset": np.zeros_like(scales) if offset is None else offset}
    tensors = {name: np.tile(numbers, count) for name, numbers in tensors.items()}
    tensors["weight"] = np.tile(np.asarray(kernel > 0), (count, 1, 1, 1))
    attributes = geometry(stride, list(padding), dilation, groups * count)
    shape = sizes_of(node)
    made = (len(kernel) * count, *shape[2:])
    if binary_input:
        bits = f"{source}.bits"
        if not any(other.bits == bits for other in tracer.nodes):
            read = shape_in("image", value.shape)
            assert read is not None
            tracer.nodes.append(Node("elementwise", [source], read, source_of(node), bits=bits))
        source = bits
    operation = "binary_convolution" if binary_input else "convolution"
    result = Value.image((1, *made), tracer.emit(operation, [source], made, attributes=attributes, tensors=tensors))
    return reshaped(tracer, result, shape)


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "convolution": _general,
    "col2im": _fold,
    "binary_conv2d": _binary_convolution,
}
