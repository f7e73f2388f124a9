"""Handlers of interpolation to another height and width."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from biper.lowering.tracer import Handler, Tracer


def _nearest(tracer: Tracer, node: torch.fx.Node) -> str:
    return tracer.emit(node, "resize", [tracer.value(node.args[0], node)])


HANDLERS: Mapping[str, Handler] = {"upsample_nearest2d": _nearest}
