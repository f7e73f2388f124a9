"""Comparing results: how far those of one engine are from the expected ones, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.program import Program
from biper.runtime.reference import run_reference

Array = NDArray[Any]

RunProgram = Callable[[Mapping[str, NDArray[np.float32]]], Mapping[str, NDArray[np.float32]]]
"""An engine: from the inputs of a program by name, ``"image"`` (N, C, H, W) normalized and others (N, ...), to its
results (N, ...) by the names in `Program.results`; all are float32."""

TOLERANCE = 1e-4
"""The difference of an output that counts as float rounding, as a share of the largest output."""

OTHER_PLACES = 1e-3
"""The share of an image's results that may be another whole number, where all expected results are whole numbers."""

IMAGES = 16
"""How many random images are compared where no real ones are given."""


@dataclass(frozen=True)
class Differences:
    """How outputs differ from the expected ones on each of N images.

    Attributes:
        shares: (N,) the largest difference of an image's outputs, as a share of the scale.
        same_top1: (N,) bool, whether the largest output is at the same place.
    """

    shares: Array
    same_top1: NDArray[np.bool_]

    def within(self, tolerance: float) -> NDArray[np.bool_]:
        """Which images differ by at most ``tolerance``, (N,) bool; one with a NaN does not."""
        return np.asarray(self.shares <= tolerance, np.bool_)


def differences(actual: Array, expected: Array, scale: float | Array | None = None) -> Differences:
    """Compare outputs.

    Whole numbers, such as the class of each pixel of a map by ``argmax``, are choices between values that rounding may
    make equal. Where all expected outputs are whole, up to `OTHER_PLACES` of those of an image may be other ones.

    Args:
        actual: (N, ...) outputs.
        expected: outputs of as many elements, in any shape that begins with N.
        scale: what differences are a share of: one number, or one for each image (N,); None for the largest magnitude
            of all expected outputs.
    """
    expected = expected.reshape(len(expected), -1)
    actual = actual.reshape(expected.shape)
    if scale is None:
        scale = largest_magnitude(expected)
    shares = np.abs(actual - expected).max(1) / scale
    if expected.shape[1] * OTHER_PLACES >= 1 and np.array_equal(expected, np.rint(expected)):
        shares = np.where((actual != expected).mean(1) <= OTHER_PLACES, 0.0, shares)
    return Differences(shares, actual.argmax(1) == expected.argmax(1))


def largest_magnitude(values: Array) -> float:
    """The largest magnitude of an array; never 0, so that a share of it can be taken."""
    return max(float(np.abs(values).max()), 1e-30)


@dataclass(frozen=True)
class Agreement:
    """How another engine's results agree with those of the reference.

    Attributes:
        images: how many images were compared.
        equal_images: on how many all results are equal to float rounding. On the others a value near zero became the
            other bit.
        difference: the largest difference on the equal images, as a share of the largest number of that result.
        same_top1: on how many of all images the largest number of the first result is at the same place.
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


def compare_with_reference(run: RunProgram, program: Program, images: NDArray[np.float32] | None = None) -> Agreement:
    """Compare the results of another engine with those of the reference in NumPy.

    Args:
        run: the other engine.
        program: what it should compute. Its further inputs are random.
        images: (N, C, H, W) normalized; random ones if None.

    Raises:
        ExportError: fewer than half of the images have the same outputs.
    """
    random = np.random.Generator(np.random.PCG64(0))
    if images is None:
        images = random.standard_normal((IMAGES, *program.input_shape), np.float32)
    others = {name: random.standard_normal((len(images), *shape), np.float32) for name, shape in program.inputs.items()}
    results, values = run({"image": images, **others}), run_reference(program, images, others)
    found = [differences(results[name], values[value]) for name, value in program.results.items()]
    shares = np.max([each.shares for each in found], axis=0)
    equal = np.all([each.within(TOLERANCE) for each in found], axis=0)
    count = int(equal.sum())
    if 2 * count < len(images):
        raise ExportError(
            f"the exported graph computes something else: outputs differ by up to {shares.max():.1e} of the "
            f"largest, and are equal on {count} of {len(images)} images"
        )
    return Agreement(len(images), count, float(shares[equal].max()), int(found[0].same_top1.sum()))
