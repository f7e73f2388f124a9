"""Why the native engine gives other outputs than the reference on an image: a bit that flipped by rounding, or a fault.

Both compute the same in float32 but add in different orders. A value that is within rounding of zero can therefore
become the other bit, after which everything differs. The more bits a network takes of sums and functions, the more
images have such a bit, so their number says nothing; the values at the first flipped bit do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.agreement import largest_magnitude
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reference import run_reference


def difference_at_first_flip(
    program: Program, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]
) -> float:
    """How far the engine is from the reference where an image first gets another bit, for images with other outputs.

    Args:
        program: what both compute.
        images: (N, C, H, W) normalized, on each of which the outputs differ.
        others: the further inputs of the program by name, each (N, ...).

    Returns:
        The largest difference of the real values whose signs are the first to differ, as a share of the largest of
        these values, over all images; infinite where outputs differ although no sign does, and 0 without images.
    """
    if not len(images):
        return 0.0
    watched: dict[str, str] = {}
    operations = []
    for op in program.operations:
        if op.bits is not None and "threshold" not in op.tensors:  # thresholds compare integers, which are exact
            name = op.real or f"{op.bits}.real"
            watched[name] = name
            op = replace(op, real=name)
        operations.append(op)
    if not watched:
        return math.inf
    shown = replace(program, operations=tuple(operations), output=next(iter(watched)), outputs=watched, classes=())
    engine = Engine(shown)
    return max(_of_image(shown, engine, images, others, index) for index in range(len(images)))


def _of_image(
    program: Program, engine: Engine, images: NDArray[np.float32], others: Mapping[str, NDArray[Any]], index: int
) -> float:
    one = slice(index, index + 1)
    of_image = {name: array[one] for name, array in others.items()}
    expected = run_reference(program, images[one], of_image)
    for name, actual in zip(program.outputs, engine.run(images[one], of_image), strict=True):
        if ((actual >= 0) != (expected[name] >= 0)).any():
            return float(np.abs(actual - expected[name]).max() / largest_magnitude(expected[name]))
    return math.inf
