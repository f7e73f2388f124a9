"""From a torch module to the graph that is packed: the trace, then every pass over the graph, in order."""

from __future__ import annotations

from torch import nn

from biper.lowering.fold import fold_flattening_, fold_multipliers_, fold_thresholds_
from biper.lowering.fuse import drop_activations_before_signs_, fuse_epilogues_
from biper.lowering.graph import Graph
from biper.lowering.offsets import drop_zero_shifts_, move_offsets_
from biper.lowering.trace import Example, trace


def lower(model: nn.Module, example_input: Example) -> Graph:
    """Trace a model and run every pass.

    Args:
        model: any module whose binary layers are in stage 2.
        example_input: the inputs, floating point, which fix all sizes but N; see `trace`.

    Returns:
        The graph that is packed.

    Raises:
        ExportError: the model cannot be traced, or uses an operator that is not supported.
    """
    graph = trace(model, example_input)
    drop_zero_shifts_(graph)
    fuse_epilogues_(graph)
    move_offsets_(graph)
    fuse_epilogues_(graph)
    fold_flattening_(graph)
    drop_activations_before_signs_(graph)
    fold_multipliers_(graph)
    fold_thresholds_(graph)
    graph.drop_unread()
    return graph
