"""Whether another engine's outputs are a program's, but for bits that rounding flips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.program import Program
from biper.runtime.reference import run_reference

TOLERANCE = 1e-4
"""Allowed difference of an output, as a share of the largest."""

IMAGES = 16


@dataclass(frozen=True)
class Agreement:
    """On how many images outputs are equal to rounding; on the others a value near zero became another bit.

    ``difference`` is the largest on the former, as a share of the largest output; ``same_top1`` is of all.
    """

    images: int
    equal_images: int
    difference: float
    same_top1: int

    def __str__(self) -> str:
        return (
            f"outputs within {self.difference:.1e} on {self.equal_images} of {self.images} images, "
            f"the same top-1 on {self.same_top1}"
        )


def compare_outputs(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    program: Program,
    images: NDArray[np.float32] | None = None,
) -> Agreement:
    """Run another engine beside the reference.

    Args:
        run: normalized images (N, C, H, W) to outputs.
        program: what it should compute.
        images: real ones; random ones if None.

    Raises:
        ExportError: fewer than half of the images have the same outputs.
    """
    if images is None:
        images = np.random.Generator(np.random.PCG64(0)).standard_normal((IMAGES, *program.input_shape), np.float32)
    expected = run_reference(program, images)[program.output].reshape(len(images), -1)
    actual = run(images).reshape(expected.shape)
    scale = max(float(np.abs(expected).max()), 1e-30)
    differences = np.abs(actual - expected).max(1) / scale
    equal = differences <= TOLERANCE
    if 2 * int(equal.sum()) < len(images):
        raise ExportError(
            f"the exported graph computes something else: outputs differ by up to {differences.max():.1e} of the "
            f"largest, and are equal on {int(equal.sum())} of {len(images)} images"
        )
    same = int((actual.argmax(1) == expected.argmax(1)).sum())
    return Agreement(len(images), int(equal.sum()), float(differences[equal].max()), same)
