"""Handlers of batch norm in evaluation mode, which is an affine function of each channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from biper.errors import ExportError
from biper.lowering.graph import Node
from biper.lowering.tracer import Handler, Tracer, arguments_of, shape_of, source_of


def _batch_norm(tracer: Tracer, node: torch.fx.Node) -> str:
    x, weight, bias, mean, variance, _, epsilon = arguments_of(node)
    means, variances = tracer.array(mean), tracer.array(variance)
    assert means is not None
    assert variances is not None
    scale = 1 / np.sqrt(variances.astype(np.float64) + epsilon)
    gamma, beta = tracer.array(weight), tracer.array(bias)
    multiplier = scale if gamma is None else scale * gamma
    offset = -means * multiplier + (0 if beta is None else beta)
    tensors = {"multiplier": multiplier.astype(np.float32), "offset": offset.astype(np.float32)}
    name = tracer.value(x, node)
    # The operator returns (result, mean, variance), so its own node has no single shape: the input's is the result's.
    shape = shape_of(arguments_of(node)[0])
    tracer.nodes.append(Node("elementwise", [name], shape, source_of(node), real=node.name, tensors=tensors))
    return node.name


def _getitem(tracer: Tracer, node: torch.fx.Node) -> str:
    """The choice of one result of an operator that returns several: the value of the first is the operator's value."""
    source, index = arguments_of(node)
    if index != 0:
        raise ExportError(f"{source_of(node)}: result {index} of {source} is not supported")
    return tracer.value(source, node)


HANDLERS: Mapping[str, Handler] = {"_native_batch_norm_legit_no_training": _batch_norm, "getitem": _getitem}
