"""Handlers of linear layers on tensors of any rank, matrix products, and attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Shape
from biper.lowering.operators.convolution import emit_convolution, geometry
from biper.lowering.operators.elementwise import binary, choice
from biper.lowering.operators.reductions import softmax
from biper.lowering.operators.shapes import permuted, reshaped
from biper.lowering.torch_nodes import arguments_of, keywords_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Result, Tracer
from biper.lowering.values import Value

MASKED = np.float32(-1e30)
"""The scores of places that attention does not look at."""


def linear(
    tracer: Tracer, value: Value, matrix: NDArray[np.float32], bias: NDArray[np.float32] | None, shape: Shape
) -> Value:
    """``value @ matrix.T + bias`` on the last axis: a 1x1 convolution, of a map of one pixel or of the rows."""
    form = "image" if len(value.shape) == 2 and value.shape[0] == 1 else "rows"
    attributes = geometry(1, [0, 0, 0, 0], 1, 1)
    kernel = np.ascontiguousarray(matrix)[:, :, None, None]
    return emit_convolution(tracer, tracer.form(form, value), shape, kernel, bias, attributes, form)


def _linear(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, weight, bias = arguments_of(node, None, None, None)
    matrix = tracer.constant(weight)
    value = tracer.value(x)
    if matrix is not None and value.shape:
        return linear(tracer, value, matrix, tracer.constant(bias), sizes_of(node))
    turned = permuted(tracer, tracer.value(weight), [1, 0])
    result = product(tracer, value, turned, sizes_of(node))
    return result if bias is None else binary(tracer, "add", result, bias, sizes_of(node))


def product(tracer: Tracer, left: Value, right: Value, shape: Shape) -> Value:
    """The matrix product of two values, as ``torch.matmul`` computes it: vectors become rows and columns."""
    if len(left.shape) == 1:
        left = reshaped(tracer, left, (1, *left.shape))
    if len(right.shape) == 1:
        right = reshaped(tracer, right, (*right.shape, 1))
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    made = (*lead, left.shape[-2], right.shape[-1])
    name = tracer.emit("matmul", [tracer.array(left), tracer.array(right)], made)
    return reshaped(tracer, Value.array(made, name), shape)


def _matmul(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``mm``, ``bmm``, ``matmul`` and so on; with a constant matrix on the right, a linear layer."""
    left, right = arguments_of(node)[:2]
    matrix = tracer.constant(right)
    value = tracer.value(left)
    if matrix is not None and matrix.ndim == 2 and len(value.shape) >= 2:
        return linear(tracer, value, matrix.T, None, sizes_of(node))
    return product(tracer, value, tracer.value(right), sizes_of(node))


def _add_product(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``addmm`` and ``baddbmm``: ``beta * bias + alpha * left @ right``."""
    bias, left, right = arguments_of(node)[:3]
    beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
    assert isinstance(beta, int | float)
    assert isinstance(alpha, int | float)
    matrix, constant = tracer.constant(right), tracer.constant(bias)
    value, shape = tracer.value(left), sizes_of(node)
    if matrix is not None and matrix.ndim == 2 and constant is not None and constant.size == shape[-1]:
        return linear(tracer, value, matrix.T * np.float32(alpha), constant.reshape(-1) * np.float32(beta), shape)
    result = product(tracer, value, tracer.value(right), shape)
    if alpha != 1:
        result = binary(tracer, "multiply", result, np.float32(alpha), shape)
    addend = tracer.value(bias)
    if beta != 1:
        addend = binary(tracer, "multiply", addend, np.float32(beta), addend.shape)
    return binary(tracer, "add", result, addend, shape)


def _bilinear(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``_trilinear`` of `torch.nn.Bilinear`: ``y[o] = sum over i, j of left[i] * weight[o, i, j] * right[j]``."""
    left, weights, right = arguments_of(node)[:3]
    known = tracer.constant(weights)
    expansions = [list(axes) for axes in arguments_of(node)[3:6]]
    rank = len(sizes_of(node))
    if known is None or expansions != [[rank - 1, rank + 1], list(range(rank - 1)), [rank - 1, rank]]:
        raise ExportError(f"{source_of(node)}: {node.target} is supported as torch.nn.Bilinear alone; use matmul")
    value, other = tracer.value(left), tracer.value(right)
    outs, size, others = known.shape
    turned = np.ascontiguousarray(known.transpose(0, 2, 1)).reshape(outs * others, size)
    made = linear(tracer, value, turned, None, (*value.shape[:-1], outs * others))
    apart = reshaped(tracer, made, (*value.shape[:-1], outs, others))
    column = reshaped(tracer, other, (*other.shape, 1))
    return product(tracer, apart, column, (*value.shape[:-1], outs))


def _attention(tracer: Tracer, node: torch.fx.Node) -> Result:
    """``softmax(scale * query @ key^T + mask) @ value``, in all the forms that torch has for it."""
    known = keywords_of(node)
    query, key, value = (tracer.value(known[name]) for name in ("query", "key", "value"))
    scale = known.get("scale")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if len(key.shape) > 2 and query.shape[-3] != key.shape[-3] > 1:  # grouped queries share keys
        key, value = (_repeated(tracer, item, query.shape[-3] // item.shape[-3]) for item in (key, value))
    rank = len(key.shape)
    turned = permuted(tracer, key, [*range(rank - 2), rank - 1, rank - 2])
    scaled = binary(tracer, "multiply", query, np.float32(scale), query.shape)
    scores_shape = (*np.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    scores = product(tracer, scaled, turned, scores_shape)
    mask, allowed = _mask_of(tracer, known, scores_shape)
    if allowed is not None:
        scores = choice(tracer, [allowed, scores, MASKED], scores_shape)
    elif mask is not None:
        scores = binary(tracer, "add", scores, mask, scores_shape)
    weights = softmax(tracer, scores, -1)
    if allowed is not None:  # the weights of a place that looks at no other are 0
        weights = choice(tracer, [allowed, weights, 0.0], scores_shape)
    result = product(tracer, weights, value, (*scores_shape[:-1], value.shape[-1]))
    return result if operator_name(node) == "scaled_dot_product_attention" else [result]


def _mask_of(tracer: Tracer, known: Mapping[str, Any], shape: Shape) -> tuple[Value | None, Value | None]:
    """What is added to the scores of attention, or which of them count; at most one of the two is there."""
    mask = known.get("attn_mask", known.get("attn_bias"))
    if known.get("is_causal"):
        constant: NDArray[Any] | None = np.tri(shape[-2], shape[-1], dtype=np.bool_)
    else:
        constant = tracer.raw_constant(mask)
    if constant is None:
        if mask is None:
            return None, None
        value = tracer.value(mask)
        return (None, value) if mask.meta["val"].dtype == torch.bool else (value, None)
    if constant.dtype == np.bool_:
        return None, Value.array(constant.shape, tracer.stored(constant))
    finite = np.maximum(constant, MASKED)
    return Value.array(finite.shape, tracer.stored(finite)), None


def _repeated(tracer: Tracer, value: Value, count: int) -> Value:
    """Each head of a value ``count`` times, one after the other."""
    *lead, heads, length, features = value.shape
    apart = reshaped(tracer, value, (*lead, heads, 1, length, features))
    shape = (*lead, heads, count, length, features)
    name = tracer.emit("expand", [tracer.array(apart)], shape, attributes={"shape": list(shape)})
    return reshaped(tracer, Value.array(shape, name), (*lead, heads * count, length, features))


HANDLERS: Mapping[str, Handler] = {
    "linear": _linear,
    "_trilinear": _bilinear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _add_product),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math",
        ),
        _attention,
    ),
}  # fmt: skip
