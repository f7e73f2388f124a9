"""The epilogue of an operation on images: affine, residual, activation, then real values, bits or both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from biper.runtime.checks import Checker
from biper.runtime.operations.spec import Array
from biper.runtime.program import Operation, Shape


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


def by_channel(numbers: Array) -> Array:
    """One number for each channel in a shape that broadcasts over (N, C, H, W)."""
    return numbers.reshape(-1, 1, 1)


def apply_epilogue(op: Operation, y: Array, values: Mapping[str, Array]) -> Array:
    """Apply the steps of an epilogue, except the signs, to results y (N, C, H, W); ``values`` holds the residual."""
    if "multiplier" in op.tensors:
        y = y * by_channel(op.tensors["multiplier"])
    if "offset" in op.tensors:
        y = y + by_channel(op.tensors["offset"])
    if op.residual is not None:
        y = y + values[op.residual]
    match op.attributes.get("activation"):
        case "clip":
            return np.clip(y, np.float32(op.attributes["low"]), np.float32(op.attributes["high"]))
        case "relu":
            return np.maximum(y, np.float32(0))
        case "prelu":
            return np.where(y >= 0, y, y * by_channel(op.tensors["slope"]))
    return y
