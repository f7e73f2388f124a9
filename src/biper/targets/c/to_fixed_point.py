"""Converts a program to integers: makes it ready, measures its values on images, and chooses how they are stored.

`biper.targets.c.converter` converts its operations, and `biper.targets.c.fixed_point` says what the numbers mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.program import Program
from biper.runtime.reference import run_reference
from biper.targets.c import INTEGER_OPERATIONS
from biper.targets.c.balanced import balanced
from biper.targets.c.converter import Converter
from biper.targets.c.fixed_point import LARGEST, FixedProgram
from biper.targets.c.prepared import (
    with_folded_pixels,
    with_input,
    with_joined_signs,
    with_plain_thresholds,
    without_flips,
)
from biper.targets.c.ranges import DifferentScalesError
from biper.targets.operations import require_operations, require_usable_numbers

__all__ = ["to_fixed_point", "with_input", "without_flips"]

Array = NDArray[Any]


def to_fixed_point(
    program: Program,
    images: NDArray[np.float32] | None = None,
    *,
    numbers: bool | None = None,
    value_bits: int = 16,
) -> FixedProgram:
    """Convert a program to integers.

    Args:
        program: a validated program, its float layers in any type.
        images: (N, C, H, W) normalized, on which the magnitudes of values are measured; None to use the largest that
            they can have for any image; normalized numbers are then taken to be at most 8 in magnitude.
        numbers: whether the input is normalized numbers; see `with_input`.
        value_bits: the bits that values between layers are stored in: 16, or 32, which takes more memory and changes
            nearly no sign; 32 is for operations on images.

    Raises:
        ExportError: C has no operator for an operation, or a sum could overflow 32 bits.
    """
    if value_bits not in LARGEST:
        raise ExportError(f"value_bits={value_bits!r}: expected 16 or 32")
    require_operations(program, "C in integers alone", INTEGER_OPERATIONS)
    require_usable_numbers(program, infinity=False)
    if program.inputs:
        names = ", ".join(program.inputs)
        raise ExportError(f"the ranges of the inputs {names} are not known: write C in float32, not in integers alone")
    plain = without_flips(program)
    program = with_input(plain, numbers)
    seen = {} if images is None else run_reference(plain, images)
    by_channel = {name: _largest(value) for name, value in seen.items() if value.dtype != bool}
    most = {name: float(largest.max()) for name, largest in by_channel.items()}
    if seen:
        program, balanced_most = balanced(program, by_channel)
        most |= balanced_most
    program = with_joined_signs(with_plain_thresholds(with_folded_pixels(program)))
    if value_bits == 32:
        steps = Converter(program, most, midpoints=False, value_bits=32).converted().operations
        sums = [step.exponent - step.down for step in steps if step.direct and step.fast]
        # All residual sums have one exponent, so that the values between them are added as they are.
        return Converter(program, most, midpoints=False, value_bits=32, finest=min(sums, default=28)).converted()
    try:
        return Converter(program, most, midpoints=True).converted()
    except DifferentScalesError:
        return Converter(program, most, midpoints=False).converted()


def _largest(value: Array) -> Array:
    """The largest magnitude of each channel of images (N, C, H, W), or of all elements of other arrays."""
    sizes = np.abs(value)
    return np.asarray(sizes.max((0, 2, 3)) if value.ndim == 4 else sizes.max(keepdims=True).reshape(1))
