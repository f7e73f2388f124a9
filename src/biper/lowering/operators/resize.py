"""Handlers of interpolation to another height and width."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from biper.errors import ExportError
from biper.lowering.tracer import Handler, Tracer, arguments_of, shape_of, source_of


def _nearest(tracer: Tracer, node: torch.fx.Node) -> str:
    """Nearest interpolation; a packed file reads row ``i * height // new_height``, and the same for columns.

    torch reads row ``floor(i / scale)`` where the caller gave a factor, which can be another one.
    """
    x, _, *scales = arguments_of(node, None, None, None, None)
    if len(scales) >= 1 and isinstance(scales[0], list | tuple):
        scales = list(scales[0])
    before, after = shape_of(x)[1:], shape_of(node)[1:]
    for size, new, scale in zip(before, after, (*scales, None, None)[:2], strict=True):
        step = np.float32(1 / scale) if scale else np.float32(size) / np.float32(new)
        theirs = np.minimum((np.arange(new, dtype=np.float32) * step).astype(np.int64), size - 1)
        if not np.array_equal(theirs, np.arange(new) * size // new):
            raise ExportError(
                f"{source_of(node)}: nearest interpolation from {before[0]}x{before[1]} to {after[0]}x{after[1]} by a "
                "factor reads other pixels than one to a size; give size=... in place of scale_factor=..., or "
                "recompute_scale_factor=True"
            )
    return tracer.emit(node, "resize", [tracer.value(node.args[0], node)])


HANDLERS: Mapping[str, Handler] = {"upsample_nearest2d": _nearest}
