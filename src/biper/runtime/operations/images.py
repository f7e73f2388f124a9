"""Operations on images other than convolutions: pools, padding and concatenation of channels, resizing, flattening."""

from __future__ import annotations

import math

import numpy as np

from biper.runtime.checks import Checker
from biper.runtime.operations.spec import Array, Attributes, Checked, OperationSpec, Tensors
from biper.runtime.program import Operation, Shape


def _pool_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    channels, height, width = inputs[0]
    check.require(attributes.get("kind") in ("max", "average"), f"has kind {attributes.get('kind')!r}")
    check.require(isinstance(attributes.get("count_padding"), bool), "has no count_padding")
    kernel = check.integers(attributes.get("kernel"), "kernel", 2, 1, 1 << 16)
    stride = check.integers(attributes.get("stride"), "stride", 2, 1, 1 << 16)
    padding = check.integers(attributes.get("padding"), "padding", 2, 0, 1 << 10)
    size = check.integers(attributes.get("size"), "size", 2, 1, 1 << 16)
    for extent, window, step, pad, count in zip((height, width), kernel, stride, padding, size, strict=True):
        check.require(2 * pad <= window, f"pads {padding} for windows {kernel}")
        check.require((count - 1) * step < extent + pad, "has windows outside the image")
    names = {"kind", "kernel", "stride", "padding", "count_padding", "size"}
    return Checked((channels, size[0], size[1]), names, set())


def _elementwise_rule(_check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    return Checked(inputs[0], set(), set())


def _pad_channels_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    channels, height, width = inputs[0]
    before, after = check.integers([attributes.get("before"), attributes.get("after")], "padding", 2, 0, 1 << 20)
    return Checked((before + channels + after, height, width), {"before", "after"}, set())


def _concatenate_rule(check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    if len({shape[1:] for shape in inputs}) != 1:
        check.require(False, f"joins values of shapes {inputs}")
    return Checked((sum(shape[0] for shape in inputs), *inputs[0][1:]), set(), set())


def _resize_rule(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    height, width = check.integers([attributes.get("height"), attributes.get("width")], "size", 2, 1, 1 << 16)
    return Checked((inputs[0][0], height, width), {"height", "width"}, set())


def _flatten_rule(_check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    return Checked((math.prod(inputs[0]), 1, 1), set(), set())


def _pool(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    (kh, kw), (down, across) = op.attributes["kernel"], op.attributes["stride"]
    pad_y, pad_x = op.attributes["padding"]
    height, width = x.shape[2:]
    y = np.empty((*x.shape[:2], *op.shape[1:]), np.float32)
    for row in range(op.shape[1]):
        for column in range(op.shape[2]):
            top, left = row * down - pad_y, column * across - pad_x
            window = x[:, :, max(top, 0) : top + kh, max(left, 0) : left + kw]
            if op.attributes["kind"] == "max":
                y[:, :, row, column] = window.max((2, 3))
                continue
            count = window.shape[2] * window.shape[3]
            if op.attributes["count_padding"]:
                count = (min(top + kh, height + pad_y) - top) * (min(left + kw, width + pad_x) - left)
            y[:, :, row, column] = window.sum((2, 3)) / np.float32(count)
    return y


def _resize(op: Operation, inputs: list[Array]) -> Array:
    (x,) = inputs
    rows = np.arange(op.shape[1]) * x.shape[2] // op.shape[1]
    columns = np.arange(op.shape[2]) * x.shape[3] // op.shape[2]
    return x[:, :, rows][:, :, :, columns]


def _windows(inputs: list[Shape], _shape: Shape, attributes: Attributes, _tensors: Tensors) -> int:
    """Twice the places of a window that are inside the image."""
    pairs = zip(attributes["kernel"], inputs[0][1:], strict=True)
    return 2 * math.prod(min(window, extent) for window, extent in pairs)


def _pad_channels(op: Operation, inputs: list[Array]) -> Array:
    return np.pad(inputs[0], ((0, 0), (op.attributes["before"], op.attributes["after"]), (0, 0), (0, 0)))


OPERATIONS = (
    OperationSpec(
        "pool",
        "The largest or the mean of each window of height and width.",
        ("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "amax"),
        _pool_rule,
        _pool,
        on_images=True,
        work=_windows,
    ),
    OperationSpec(
        "elementwise",
        "The epilogue alone: an affine of each channel, a sum, an activation, and signs.",
        ("batch_norm", "add", "mul", "hardtanh", "relu", "relu6", "prelu"),
        _elementwise_rule,
        lambda _op, inputs: inputs[0],
        on_images=True,
    ),
    OperationSpec(
        "pad_channels",
        "Channels of zeros before and after those of an image.",
        ("constant_pad_nd",),
        _pad_channels_rule,
        _pad_channels,
        on_images=True,
    ),
    OperationSpec(
        "concatenate",
        "Images of one size put together by channel.",
        ("cat",),
        _concatenate_rule,
        lambda _op, inputs: np.concatenate(inputs, axis=1),
        on_images=True,
        inputs=(2, 1 << 16),
    ),
    OperationSpec(
        "resize",
        "Another height and width by nearest: source row floor(row * H / height).",
        ("upsample_nearest2d",),
        _resize_rule,
        _resize,
        on_images=True,
    ),
    OperationSpec(
        "flatten",
        "An image (C, H, W) as (C H W, 1, 1).",
        ("flatten", "view"),
        _flatten_rule,
        lambda _op, inputs: inputs[0].reshape(len(inputs[0]), -1, 1, 1),
        on_images=True,
    ),
)
"""The operations of this family."""
