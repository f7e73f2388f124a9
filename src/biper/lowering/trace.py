"""From a torch module to a `Graph`: `torch.export` lists the operators, and each becomes nodes of the graph."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from biper.errors import ExportError
from biper.lowering.exported_layers import with_exported_layers
from biper.lowering.graph import Graph
from biper.lowering.operators import HANDLERS
from biper.lowering.tracer import Tracer
from biper.lowering.views import undo_scattered_views_


def trace(model: nn.Module, example_input: Tensor) -> Graph:
    """Lower a model to a graph with one node for each operator, nothing fused.

    Args:
        model: any module that maps one batch of images (N, C, H, W), or of signals (N, C, L), to one tensor.
        example_input: (N, C, H, W) or (N, C, L) floating point; it fixes all sizes but N. A signal is an image of
            height 1.

    Raises:
        ExportError: the model cannot be traced, or uses an operator that is not supported (the text names the operator
            and its module).
    """
    if example_input.dim() not in (3, 4):
        raise ExportError(f"example_input must be (N, C, H, W) or (N, C, L), got shape {tuple(example_input.shape)}")
    prepared = with_exported_layers(model).float()
    image = example_input[:1].detach().cpu().float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            program = torch.export.export(prepared, (image,)).run_decompositions({})
    except ExportError:
        raise
    except Exception as error:  # torch.export raises many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"torch.export cannot trace this model: {first}") from error
    undo_scattered_views_(program.graph_module.graph)
    return Tracer(program, HANDLERS).run()
