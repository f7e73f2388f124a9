"""What a packed program computes, defined in plain NumPy. The engine is tested against it, operation by operation.

What one operation computes stands beside its rules in `biper.runtime.operations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations import OPERATIONS
from biper.runtime.operations.epilogue import apply_epilogue, by_channel
from biper.runtime.program import Operation, Program

Array = NDArray[Any]


def run_reference(program: Program, images: Array, others: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Run a program on normalized images and return every value that it makes.

    Args:
        program: a validated program.
        images: (N, C, H, W) float32, normalized, of the program's input shape.
        others: the other inputs of the program by name, each (N, ...) float32.

    Returns:
        The values by name: real values are float32 (N, ...), bits are bool (N, C, H, W). For each binary convolution
        there are also its integer sums, int32 (N, C, H, W), under the name ``"<index>.sum"``.
    """
    values: dict[str, Array] = {"image": np.asarray(images, np.float32)}
    for name, array in (others or {}).items():
        values[name] = np.asarray(array, np.float32)
    with np.errstate(all="ignore"):
        for index, op in enumerate(program.operations):
            if OPERATIONS[op.operation].on_images:
                _run_on_images(index, op, values)
            else:
                assert op.real is not None
                values[op.real] = _run_on_arrays(op, values, len(images))
    return values


def _run_on_images(index: int, op: Operation, values: dict[str, Array]) -> None:
    """Run an operation on images and its epilogue."""
    result = OPERATIONS[op.operation].compute(op, [values[name] for name in op.inputs])
    if op.operation == "binary_convolution":
        values[f"{index}.sum"] = result
    if "threshold" in op.tensors:
        above = result >= by_channel(op.tensors["threshold"])
        real, bits = None, above != by_channel(op.tensors["flip"]).astype(bool)
    else:
        real = apply_epilogue(op, result.astype(np.float32, copy=False), values)
        bits = real >= 0
    if op.real is not None:
        assert real is not None
        values[op.real] = real
    if op.bits is not None:
        values[op.bits] = bits


def _run_on_arrays(op: Operation, values: Mapping[str, Array], count: int) -> Array:
    """The result (N, ...) of an operation on arrays, which is computed image by image."""
    compute = OPERATIONS[op.operation].compute
    result = np.empty((count, *op.shape), np.float32)
    for image in range(count):
        result[image] = compute(op, [values[name][image] for name in op.inputs])
    return result
