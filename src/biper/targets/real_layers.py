"""Operations as float engines describe them: convolutions with float32 weights and biases, pools that round up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biper.errors import ModelError
from biper.runtime.program import Operation, Shape


def folded_weight(op: Operation, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The float32 weight and bias of a convolution of any kind, with its multiplier in the weight.

    A threshold t becomes the affine ``(sum - t) / sqrt(taps)``, negated where the bit is flipped: its sign is the bit.

    Args:
        op: a convolution or binary convolution.
        channels: of its input.

    Returns:
        The weight (O, I / groups, kh, kw) and the bias (O,).
    """
    weight = op.real_weight(channels)
    multiplier = op.tensors.get("multiplier", np.ones(len(weight), np.float32))
    offset = op.tensors.get("offset", np.zeros(len(weight), np.float32))
    if "threshold" in op.tensors:
        multiplier = (1 - 2 * op.tensors["flip"].astype(np.float32)) / np.sqrt(np.float32(weight[0].size))
        offset = -multiplier * op.tensors["threshold"].astype(np.float32)
    return weight * multiplier[:, None, None, None], offset


def rounds_up(pool: Operation, shape: Shape) -> bool:
    """Whether the number of a pool's windows is rounded up ("ceil mode"), so that the last are cut at the border.

    Args:
        pool: the pool.
        shape: of the value that it reads.

    Raises:
        ModelError: rounding gives this number of windows neither up nor down, so that other engines cannot have it.
    """
    kernel, stride, padding = (pool.attributes[key] for key in ("kernel", "stride", "padding"))
    spans = [shape[1 + i] + 2 * padding[i] - kernel[i] for i in (0, 1)]
    down = [span // step + 1 for span, step in zip(spans, stride, strict=True)]
    up = [-(-span // step) + 1 for span, step in zip(spans, stride, strict=True)]
    size = list(pool.shape[1:])
    if size not in (down, up):
        raise ModelError(f"{pool.source}: {size} windows, where other engines have {down} or {up}")
    return size != down
