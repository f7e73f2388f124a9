"""Convolutions of images: of real values, and of bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import DataError
from biper.runtime.bfloat16 import round_to_bfloat16
from biper.runtime.checks import Checker
from biper.runtime.operations.spec import Attributes, Checked, OperationSpec, Tensors
from biper.runtime.program import Operation, Shape, unpack_weight

Array = NDArray[Any]

MAX_INT8_TERMS = (1 << 31) // (255 * 128)
"""The most products of one int8 sum: with more the sum could overflow 32 bits."""


def _convolution_rule(check: Checker, inputs: list[Shape], attributes: Attributes, tensors: Tensors) -> Checked:
    channels, height, width = inputs[0]
    (groups,) = check.integers([attributes.get("groups")], "groups", 1, 1, channels)
    check.require(channels % groups == 0, f"has {groups} groups for {channels} channels")
    stride = check.integers(attributes.get("stride"), "stride", 2, 1, 1 << 10)
    dilation = check.integers(attributes.get("dilation"), "dilation", 2, 1, 1 << 10)
    top, bottom, left, right = check.integers(attributes.get("padding"), "padding", 4, 0, 1 << 10)
    weight = tensors.get("weight")
    check.require(weight is not None and weight.ndim == 4, "has no weight of four dimensions")
    assert weight is not None
    inside = channels // groups
    if weight.dtype == np.uint8:
        out, *kernel, packed = weight.shape
        check.require(packed == -(-inside // 8), f"has weight bits {weight.shape} for {inside} channels a group")
        spare = packed * 8 - inside
        check.require(not spare or not (weight[..., -1] >> (8 - spare)).any(), "has weight bits beyond its channels")
    else:
        out, given, *kernel = weight.shape
        allowed = (np.float32, np.float16, np.uint16, np.int8)
        check.require(weight.dtype in allowed, f"has weights of type {weight.dtype}")
        check.require(given == inside, f"has weight {weight.shape} for {inside} channels a group")
    check.require(out >= 1 and out % groups == 0, f"has {out} output channels for {groups} groups")
    check.require(min(kernel) >= 1, f"has an empty kernel {tuple(kernel)}")
    rows = (height + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    columns = (width + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    names = {"groups", "stride", "dilation", "padding"}
    if weight.dtype == np.int8:
        check.require(groups == 1, "has int8 weights and groups")
        check.require("multiplier" in tensors, "has int8 weights without multiplier")
        check.require(math.prod(weight.shape[1:]) < MAX_INT8_TERMS, "has int8 sums that could overflow")
        (factor,) = check.numbers([attributes.get("input_factor")], "input_factor", 1)
        check.require(0 < factor < 1e30, f"has input_factor {factor}")
        check.integers([attributes.get("input_zero")], "input_zero", 1, 0, 255)
        names |= {"input_factor", "input_zero"}
    return Checked((out, rows, columns), names, {"weight"})


def _binary_convolution_rule(check: Checker, inputs: list[Shape], attributes: Attributes, tensors: Tensors) -> Checked:
    check.require("weight" in tensors and tensors["weight"].dtype == np.uint8, "has no weight bits")
    return _convolution_rule(check, inputs, attributes, tensors)


def convolve(op: Operation, x: Array, weight: Array) -> Array:
    """Convolve x (N, C, H, W) with weight (O, C / groups, kh, kw), tap by tap, in the dtype of ``x``.

    ``op`` gives the stride, padding, dilation and groups, and the shape of the result.
    """
    top, bottom, left, right = op.attributes["padding"]
    (down, across), (dy, dx) = op.attributes["stride"], op.attributes["dilation"]
    groups = op.attributes["groups"]
    out, rows, columns = op.shape
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    n, channels = x.shape[:2]
    grouped = x.reshape(n, groups, channels // groups, *x.shape[2:])
    kernels = weight.reshape(groups, out // groups, *weight.shape[1:]).astype(x.dtype)
    y = np.zeros((n, groups, out // groups, rows, columns), x.dtype)
    for ky in range(weight.shape[2]):
        for kx in range(weight.shape[3]):
            rows_read = slice(ky * dy, ky * dy + down * (rows - 1) + 1, down)
            columns_read = slice(kx * dx, kx * dx + across * (columns - 1) + 1, across)
            y += np.einsum(
                "goc,ngchw->ngohw", kernels[..., ky, kx], grouped[..., rows_read, columns_read], optimize=True
            )
    return y.reshape(n, out, rows, columns)


def _read_by_taps(op: Operation, x: Array, weight: Array) -> Array:
    """The rows and columns of ``x`` that taps read. A kernel that is smaller than its stride leaves some out."""
    top, _, left, _ = op.attributes["padding"]
    read = []
    for size, before, axis in ((x.shape[2], top, 0), (x.shape[3], left, 1)):
        span = (weight.shape[2 + axis] - 1) * op.attributes["dilation"][axis] + 1
        read.append((np.arange(size) + before) % op.attributes["stride"][axis] < span)
    rows, columns = read
    return x[:, :, rows][..., columns]


def _convolution(op: Operation, inputs: list[Array]) -> Array:
    x, weight = inputs[0], op.tensors["weight"]
    if weight.dtype == np.int8:
        if np.isnan(_read_by_taps(op, x, weight)).any():
            raise DataError("a value that is not finite (NaN) reaches an int8 convolution")
        zero = np.float32(op.attributes["input_zero"])
        levels = np.rint(np.clip(x * np.float32(op.attributes["input_factor"]), -zero, 255 - zero))
        return convolve(op, levels.astype(np.float64), weight).astype(np.int32)  # float64 holds the sums exactly
    return convolve(op, round_to_bfloat16(x) if weight.dtype == np.uint16 else x, op.real_weight(x.shape[1]))


def _binary_convolution(op: Operation, inputs: list[Array]) -> Array:
    """The integer sums. float32 represents every integer up to 2^24 exactly, which is more than any sum of a layer."""
    weight = unpack_weight(op.tensors["weight"], inputs[0].shape[1] // op.attributes["groups"])
    signs = inputs[0].astype(np.float32) * 2 - 1
    return convolve(op, signs, weight).astype(np.int32)


def _products(inputs: list[Shape], shape: Shape, attributes: Attributes, tensors: Tensors) -> int:
    """The products of a sum, and for int8 weights the share of a result in rounding the padded input to levels."""
    weight = tensors["weight"]
    kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
    products = math.prod(kernel) * inputs[0][0] // attributes["groups"]
    if weight.dtype != np.int8:
        return int(products)
    channels, height, width = inputs[0]
    top, bottom, left, right = attributes["padding"]
    levels = channels * (height + top + bottom) * (width + left + right)
    return int(products + 4 * levels // math.prod(shape))


OPERATIONS = (
    OperationSpec(
        "convolution",
        "A convolution of real values with weights in float32, float16, bfloat16 or int8, or that are bits.",
        ("conv1d", "conv2d", "linear", "conv_transpose1d", "conv_transpose2d"),
        _convolution_rule,
        _convolution,
        on_images=True,
        work=_products,
    ),
    OperationSpec(
        "binary_convolution",
        "A convolution of bits with weights that are bits: the integer sums of products of signs.",
        ("binary_conv2d",),
        _binary_convolution_rule,
        _binary_convolution,
        on_images=True,
        work=_products,
    ),
)
"""The operations of this family."""
