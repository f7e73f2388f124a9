"""What each operation of a packed program must look like, and the shape of what it makes.

The operations are described in `biper.runtime.program`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biper.runtime.checks import Checker
from biper.runtime.program import Operation, Shape

MAX_INT8_TERMS = (1 << 31) // (255 * 128)
"""The most products of one int8 sum: with more the sum could overflow 32 bits."""

Attributes = Mapping[str, Any]
Tensors = Mapping[str, NDArray[Any]]


class Checked(NamedTuple):
    """The shape of an operation's result, and the names of the attributes and tensors that belong to the operation."""

    shape: Shape
    attributes: set[str]
    tensors: set[str]


def check_operation(
    check: Checker, kind: str, inputs: list[Shape], attributes: Attributes, tensors: Tensors
) -> Checked:
    """Check the attributes and tensors of an operation, except those of its epilogue.

    Args:
        check: its ``where`` names the operation.
        kind: one of ``KINDS``.
        inputs: the shapes (C, H, W) of the values that the operation reads.
        attributes: the attributes of the operation, defaults included.
        tensors: the tensors of the operation.

    Raises:
        ModelFormatError: an attribute or a tensor is missing, or has a wrong type, shape or value.
    """
    return _RULES[kind](check, inputs, attributes, tensors)


def check_epilogue(check: Checker, op: Operation, real: Mapping[str, Shape]) -> tuple[set[str], set[str]]:
    """Check the epilogue of an operation, and return the names of the attributes and tensors that belong to it.

    Args:
        check: its ``where`` names the operation.
        op: the operation, whose own part has been checked.
        real: the shapes of the real values that earlier operations made.

    Raises:
        ModelFormatError: a step of the epilogue is wrong, or two of them exclude each other.
    """
    channels = op.shape[0]
    attributes: set[str] = set()
    tensors = {name for name in ("multiplier", "offset", "threshold", "flip", "slope") if name in op.tensors}
    for name in tensors - {"threshold", "flip"}:
        check.tensor(op.tensors, name, (channels,), "float32")
    if tensors & {"threshold", "flip"}:
        check.tensor(op.tensors, "threshold", (channels,), "int32")
        check.tensor(op.tensors, "flip", (channels,), "uint8")
        check.require(bool((op.tensors["flip"] <= 1).all()), "has a flip that is neither 0 nor 1")
        alone = op.operation == "binary_convolution" and op.real is None and op.residual is None
        check.require(alone and tensors == {"threshold", "flip"}, "has a threshold where it cannot have one")
    check.require("multiplier" not in tensors or "offset" in tensors, "has a multiplier without offset")
    if op.residual is not None:
        check.require(
            isinstance(op.residual, str) and real.get(op.residual) == op.shape,
            f"has residual {op.residual!r}, which is no real value of shape {op.shape}",
        )
    if "activation" in op.attributes:
        kind = op.attributes["activation"]
        check.require(kind in ("clip", "relu", "prelu"), f"has unknown activation {kind!r}")
        check.require("threshold" not in tensors, "has an activation beside a threshold")
        check.require((kind == "prelu") == ("slope" in tensors), "has a slope without prelu, or prelu without slope")
        attributes = {"activation"}
        if kind == "clip":
            low, high = (check.numbers([op.attributes.get(key)], key, 1)[0] for key in ("low", "high"))
            check.require(low <= high, f"clips to [{low}, {high}]")
            attributes = {"activation", "low", "high"}
    else:
        check.require("slope" not in tensors, "has a slope without prelu")
    return attributes, tensors


def _convolution(check: Checker, inputs: list[Shape], attributes: Attributes, tensors: Tensors) -> Checked:
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
        allowed = (np.float32, np.float16, np.int8)
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


def _binary_convolution(check: Checker, inputs: list[Shape], attributes: Attributes, tensors: Tensors) -> Checked:
    check.require("weight" in tensors and tensors["weight"].dtype == np.uint8, "has no weight bits")
    return _convolution(check, inputs, attributes, tensors)


def _pool(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
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


def _elementwise(_check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    return Checked(inputs[0], set(), set())


def _pad_channels(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    channels, height, width = inputs[0]
    before, after = check.integers([attributes.get("before"), attributes.get("after")], "padding", 2, 0, 1 << 20)
    return Checked((before + channels + after, height, width), {"before", "after"}, set())


def _concatenate(check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    check.require(len({shape[1:] for shape in inputs}) == 1, f"joins values of shapes {inputs}")
    return Checked((sum(shape[0] for shape in inputs), *inputs[0][1:]), set(), set())


def _resize(check: Checker, inputs: list[Shape], attributes: Attributes, _tensors: Tensors) -> Checked:
    height, width = check.integers([attributes.get("height"), attributes.get("width")], "size", 2, 1, 1 << 16)
    return Checked((inputs[0][0], height, width), {"height", "width"}, set())


def _flatten(_check: Checker, inputs: list[Shape], _attributes: Attributes, _tensors: Tensors) -> Checked:
    return Checked((math.prod(inputs[0]), 1, 1), set(), set())


_RULES: dict[str, Callable[[Checker, list[Shape], Attributes, Tensors], Checked]] = {
    "convolution": _convolution,
    "binary_convolution": _binary_convolution,
    "pool": _pool,
    "elementwise": _elementwise,
    "pad_channels": _pad_channels,
    "concatenate": _concatenate,
    "resize": _resize,
    "flatten": _flatten,
}

KINDS = frozenset(_RULES)
"""The names of the operations."""
