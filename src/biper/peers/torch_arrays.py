"""Operations on arrays in torch's functions.

A value has a batch axis in front, but for constants, and what is computed from them alone: these have the shape that
they have in the program, and broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from biper.runtime.program import Operation, Shape
from biper.targets.array_shapes import padded_rank, padding_steps

UNARY: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "atan": torch.atan,
    "bfloat16": lambda x: x.bfloat16().float(),
    "ceil": torch.ceil,
    "clip": lambda x, low, high: x.clamp(low, high),
    "cos": torch.cos,
    "elu": lambda x, alpha, scale, input_scale: torch.where(
        x > 0, x * scale, torch.expm1(x.clamp(max=0) * input_scale) * (alpha * scale)
    ),
    "erf": torch.erf,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "floor": torch.floor,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": lambda x, slope: F.leaky_relu(x, slope),
    "log": torch.log,
    "log1p": torch.log1p,
    "mish": F.mish,
    "negative": torch.neg,
    "power": lambda x, exponent: torch.pow(x, exponent),
    "reciprocal": torch.reciprocal,
    "relu": F.relu,
    "round": torch.round,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "softplus": lambda x, beta, threshold: F.softplus(x, beta, threshold),
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
}
"""The functions of one value; their parameters are named as in the program."""

BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "divide": torch.div,
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "multiply": torch.mul,
    "not_equal": torch.ne,
    "power": torch.pow,
    "subtract": torch.sub,
}
"""The functions of two values."""


def batched(value: Tensor, shape: Shape, count: int) -> Tensor:
    """A value of this shape in the program with its batch axis, which a constant does not have."""
    return value if value.dim() > len(shape) else value.expand(count, *shape)


def run_on_arrays(
    op: Operation, inputs: list[Tensor], shapes: Mapping[str, Shape], tensors: Mapping[str, Tensor]
) -> Tensor:
    """Compute an operation on arrays.

    Args:
        op: the operation.
        inputs: its inputs, with or without batch axis.
        shapes: of the program's values.
        tensors: of the operation.
    """
    if op.operation == "constant":
        return tensors["value"]
    known = [shapes[name] for name in op.inputs]
    counts = [x.shape[0] for x, shape in zip(inputs, known, strict=True) if x.dim() > len(shape)]
    lead = counts[:1]
    x, a, first = inputs[0], op.attributes, len(lead)
    match op.operation:
        case "unary":
            return UNARY[a["function"]](x, **{key: value for key, value in a.items() if key != "function"})
        case "binary":
            left, right = _lifted(op, inputs, known)
            return BINARY[a["function"]](left, right).to(torch.float32)
        case "select":
            chosen, yes, no = _lifted(op, inputs, known)
            return torch.where(chosen != 0, yes, no)
        case "reduce":
            return _reduced(x, a["function"], [axis + first for axis in a["axes"]], a["keep"])
        case "softmax":
            return F.log_softmax(x, a["axis"] + first) if a["log"] else F.softmax(x, a["axis"] + first)
        case "normalize":
            return _normalized(x, known[0], first, a)
        case "matmul":
            left, right = _lifted(op, inputs, known)
            return torch.matmul(left, right)
        case "reshape":
            return x.reshape(*lead, *op.shape)
        case "permute":
            return x.permute(*range(first), *(axis + first for axis in a["order"]))
        case "slice":
            parts = zip(a["starts"], a["sizes"], a["steps"], strict=True)
            ranges = [slice(start, start + (size - 1) * step + 1, step) for start, size, step in parts]
            return x[(slice(None),) * first + tuple(ranges)]
        case "expand":
            return _lifted(op, inputs, known)[0].expand(*lead, *op.shape)
        case "join":
            if lead:
                inputs = [batched(y, shape, lead[0]) for y, shape in zip(inputs, known, strict=True)]
            return torch.cat(inputs, a["axis"] + first)
        case "pad":
            return _padded(op, x, known[0], lead)
    return _sampled(op, x, tensors["index"].flatten(), tensors.get("weight"), a["axis"] + first)


def _lifted(op: Operation, inputs: list[Tensor], shapes: list[Shape]) -> list[Tensor]:
    """The inputs, with as many axes behind their batch axes as the result of the operation has."""
    return [
        x.reshape(x.shape[0], *padded_rank(shape, len(op.shape))) if x.dim() > len(shape) else x
        for x, shape in zip(inputs, shapes, strict=True)
    ]


def _reduced(x: Tensor, function: str, axes: list[int], keep: bool) -> Tensor:
    match function:
        case "max":
            return x.amax(axes, keep)
        case "min":
            return x.amin(axes, keep)
        case "mean":
            return x.mean(axes, keep)
        case "sum":
            return x.sum(axes, keep)
    for axis in reversed(axes):
        x = x.prod(axis, keep)
    return x


def _normalized(x: Tensor, shape: Shape, first: int, attributes: Mapping[str, Any]) -> Tensor:
    axes, epsilon = attributes["axes"], attributes["epsilon"]
    if attributes["center"] and axes == list(range(axes[0], len(shape))):
        return F.layer_norm(x, shape[axes[0] :], eps=epsilon)
    behind = [axis + first for axis in axes]
    if attributes["center"]:
        x = x - x.mean(behind, keepdim=True)
    return x / torch.sqrt(x.square().mean(behind, keepdim=True) + epsilon)


def _padded(op: Operation, x: Tensor, shape: Shape, lead: list[int]) -> Tensor:
    steps, value = padding_steps(op, shape), op.attributes["value"]
    if steps.split is not None:
        after = [entry for between in steps.between for entry in (0, between)]
        spread = F.pad(x.reshape(*lead, *steps.split), _ends([0] * len(after), after), value=value)
        x = spread.reshape(*lead, *steps.joined)
    part = [slice(start, end) for start, end in zip(steps.starts, steps.ends, strict=True)]
    return F.pad(x[(slice(None),) * len(lead) + tuple(part)], _ends(steps.low, steps.high), value=value)


def _ends(low: Any, high: Any) -> list[int]:
    """Paddings in the order of torch, the last axis first."""
    return [entry for pair in reversed(list(zip(low, high, strict=True))) for entry in pair]


def _sampled(op: Operation, x: Tensor, places: Tensor, weight: Tensor | None, axis: int) -> Tensor:
    shape = op.tensors["index"].shape
    taken = x.index_select(axis, places).reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :])
    if weight is not None:
        taken = taken * weight.reshape(*shape, *[1] * (taken.dim() - axis - 2))
    if shape[0] == 1:
        return taken.squeeze(axis)
    return taken.amax(axis) if op.attributes["function"] == "max" else taken.sum(axis)
