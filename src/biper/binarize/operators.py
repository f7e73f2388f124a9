"""What is known of torch's operators: which results cannot be negative, and which operators keep signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NON_NEGATIVE = """
    relu relu6 sigmoid hardsigmoid silu hardswish gelu mish softplus square abs exp softmax _softmax
    _safe_softmax threshold norm linalg_vector_norm var std sqrt rsqrt bernoulli rand rand_like
"""

NON_NEGATIVE = frozenset(_NON_NEGATIVE.split())
"""Operators whose result is never below zero, or hardly: that of silu, hardswish, gelu and mish stays above -0.38."""

SHARES = frozenset(("sigmoid", "hardsigmoid", "softmax", "_softmax", "_safe_softmax", "bernoulli"))
"""Operators whose result is between 0 and 1: a product with it has the sign of the other factor. That of bernoulli is
the mask of a dropout."""

_PASSING = """
    view _unsafe_view reshape _reshape_alias flatten unflatten expand permute transpose t unsqueeze squeeze
    clone contiguous alias detach slice select split split_with_sizes chunk unbind narrow index roll flip
    lift_fresh_copy _to_copy as_strided max_pool1d max_pool2d max_pool3d max_pool2d_with_indices
    max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d adaptive_max_pool3d mean amax sum
    constant_pad_nd upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d
    _upsample_bilinear2d_aa pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle native_dropout
    dropout im2col reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
"""

PASSING = frozenset(_PASSING.split())
"""Operators that keep the sign of their input: the result is non-negative where the input is."""

MERGING = frozenset(("add", "mul", "div", "maximum", "minimum", "cat", "stack"))
"""Operators whose result is non-negative where all their inputs are."""


def is_non_negative(operator: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], inputs: list[bool]) -> bool:
    """Whether the result of an operator cannot be negative.

    Args:
        operator: its name without namespace and overload; a trailing underscore marks the form that works in place.
        arguments: its positional arguments.
        keywords: its keyword arguments.
        inputs: for each tensor among the arguments, whether that cannot be negative.
    """
    name = operator.rstrip("_")
    if name in NON_NEGATIVE:
        return True
    if name in ("hardtanh", "clamp", "clamp_min"):
        bound = arguments[1] if len(arguments) > 1 else keywords.get("min", keywords.get("min_val"))
        return isinstance(bound, int | float) and bound >= 0
    if name == "pow":
        return isinstance(arguments[1], int | float) and arguments[1] % 2 == 0
    if name in PASSING:
        return inputs[0]
    if name in MERGING:
        return all(inputs) and all(value >= 0 for value in arguments if isinstance(value, int | float))
    return False


def base_name(operator: str) -> str:
    """The name of an operator without the underscore of its form that works in place."""
    return operator.rstrip("_")
