"""Operations as float engines describe them: convolutions with float32 weights and biases, pools that round up."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from biper.errors import ModelError
from biper.runtime.program import Operation, Program, Shape


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


def with_rounded_inputs(program: Program) -> Program:
    """The same program with float32 weights in place of bfloat16, and operations that round what such layers read."""
    operations: list[Operation] = []
    rounded: dict[str, str] = {}
    taken = set(program.shapes)
    for op in program.operations:
        if op.operation != "convolution" or op.tensors["weight"].dtype != np.uint16:
            operations.append(op)
            continue
        (reads,) = op.inputs
        shape = program.shapes[reads]
        if reads not in rounded:
            rounded[reads] = next(name for i in count() if (name := f"{reads}_bfloat16{i or ''}") not in taken)
            taken.add(rounded[reads])
            function = {"function": "bfloat16"}
            operations.append(Operation("unary", op.source, (reads,), shape, real=rounded[reads], attributes=function))
        tensors = dict(op.tensors) | {"weight": op.real_weight(shape[0])}
        operations.append(replace(op, inputs=(rounded[reads],), tensors=tensors))
    return replace(program, operations=tuple(operations))


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
