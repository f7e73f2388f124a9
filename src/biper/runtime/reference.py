"""What a packed program computes, defined in plain NumPy. The engine is tested against it, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program, unpack_weight

Array = NDArray[Any]


def run_reference(program: Program, images: Array) -> dict[str, Array]:
    """Run a program on normalized images and return every value that it makes.

    Args:
        program: a validated program.
        images: (N, C, H, W) float32, normalized, of the program's input shape.

    Returns:
        The values by name: real values are float32 (N, C, H, W), bits are bool (N, C, H, W). For each binary
        convolution there are also its integer sums, int32 (N, C, H, W), under the name ``"<index>.sum"``.
    """
    values: dict[str, Array] = {"image": np.asarray(images, np.float32)}
    for index, op in enumerate(program.operations):
        result = _COMPUTE[op.operation](op, [values[name] for name in op.inputs])
        if op.operation == "binary_convolution":
            values[f"{index}.sum"] = result
        if "threshold" in op.tensors:
            above = result >= _by_channel(op.tensors["threshold"])
            real, bits = None, above != _by_channel(op.tensors["flip"]).astype(bool)
        else:
            real = _epilogue(op, result.astype(np.float32, copy=False), values)
            bits = real >= 0
        if op.real is not None:
            assert real is not None
            values[op.real] = real
        if op.bits is not None:
            values[op.bits] = bits
    return values


def _by_channel(numbers: Array) -> Array:
    return numbers.reshape(-1, 1, 1)


def _epilogue(op: Operation, y: Array, values: dict[str, Array]) -> Array:
    if "multiplier" in op.tensors:
        y = y * _by_channel(op.tensors["multiplier"])
    if "offset" in op.tensors:
        y = y + _by_channel(op.tensors["offset"])
    if op.residual is not None:
        y = y + values[op.residual]
    match op.attributes.get("activation"):
        case "clip":
            return np.clip(y, np.float32(op.attributes["low"]), np.float32(op.attributes["high"]))
        case "relu":
            return np.maximum(y, np.float32(0))
        case "prelu":
            return np.where(y >= 0, y, y * _by_channel(op.tensors["slope"]))
    return y


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


def _convolution(op: Operation, inputs: list[Array]) -> Array:
    x, weight = inputs[0], op.tensors["weight"]
    if weight.dtype == np.int8:
        zero = np.float32(op.attributes["input_zero"])
        levels = np.rint(np.clip(x * np.float32(op.attributes["input_factor"]), -zero, 255 - zero))
        return convolve(op, levels.astype(np.float64), weight).astype(np.int32)  # float64 holds the sums exactly
    return convolve(op, x, op.real_weight(x.shape[1]))


def _binary_convolution(op: Operation, inputs: list[Array]) -> Array:
    """The integer sums. float32 represents every integer up to 2^24 exactly, which is more than any sum of a layer."""
    weight = unpack_weight(op.tensors["weight"], inputs[0].shape[1] // op.attributes["groups"])
    signs = inputs[0].astype(np.float32) * 2 - 1
    return convolve(op, signs, weight).astype(np.int32)


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


def _pad_channels(op: Operation, inputs: list[Array]) -> Array:
    return np.pad(inputs[0], ((0, 0), (op.attributes["before"], op.attributes["after"]), (0, 0), (0, 0)))


_COMPUTE: dict[str, Callable[[Operation, list[Array]], Array]] = {
    "convolution": _convolution,
    "binary_convolution": _binary_convolution,
    "pool": _pool,
    "elementwise": lambda _op, inputs: inputs[0],
    "pad_channels": _pad_channels,
    "concatenate": lambda _op, inputs: np.concatenate(inputs, axis=1),
    "resize": _resize,
    "flatten": lambda _op, inputs: inputs[0].reshape(len(inputs[0]), -1, 1, 1),
}
