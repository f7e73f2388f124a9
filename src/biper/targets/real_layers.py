"""Operations as other engines describe theirs: weights and biases in float32, sizes of pools by rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biper.errors import ModelError
from biper.runtime.program import Operation, Shape


def folded(op: Operation, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Float32 weight (O, I / groups, kh, kw) and bias (O,) of a convolution whose input has ``channels``.

    A threshold t becomes the affine ``(sum - t) / sqrt(taps)``, negative where it is flipped: its sign is the bit.
    """
    weight = op.real_weight(channels)
    multiplier = op.tensors.get("multiplier", np.ones(len(weight), np.float32))
    offset = op.tensors.get("offset", np.zeros(len(weight), np.float32))
    if "threshold" in op.tensors:
        multiplier = (1 - 2 * op.tensors["flip"].astype(np.float32)) / np.sqrt(np.float32(weight[0].size))
        offset = -multiplier * op.tensors["threshold"].astype(np.float32)
    return weight * multiplier[:, None, None, None], offset


def rounds_up(pool: Operation, shape: Shape) -> bool:
    """Whether a pool that reads a value of ``shape`` has windows that are there only by rounding its size up.

    Raises:
        ModelError: it has another number of windows than rounding either way gives, which other engines cannot do.
    """
    kernel, stride, padding = (pool.attributes[key] for key in ("kernel", "stride", "padding"))
    spans = [shape[1 + i] + 2 * padding[i] - kernel[i] for i in (0, 1)]
    down = [span // step + 1 for span, step in zip(spans, stride, strict=True)]
    up = [-(-span // step) + 1 for span, step in zip(spans, stride, strict=True)]
    size = list(pool.shape[1:])
    if size not in (down, up):
        raise ModelError(f"{pool.source}: {size} windows, where other engines have {down} or {up}")
    return size != down
