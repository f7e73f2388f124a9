"""The handlers of torch's operators, one file for each family of operators.

A handler emits the nodes of our graph for one node of an exported torch program. Each family exports a mapping
``HANDLERS`` from the names of torch operators, without namespace and overload, to handlers. This module joins them into
the table that `biper.lowering.trace` gives to the `Tracer`. To add a torch operator, write its handler in the file of
its family and name it in the ``HANDLERS`` of that file. The list in the documentation is made from the table.

An operator without a handler is decomposed by torch into others, where torch knows how, until all of them have handlers
(`biper.lowering.trace`). An operator that changes its input in place is lowered as the one that does not, so ``add_``
needs no handler of its own.

A handler rarely emits nodes itself. It calls functions of `biper.lowering.operators.elementwise`: `unary` for a
function of one value, `binary` for arithmetic, `choice` for ``where``. They take torch arguments, numbers and what
other such calls returned, and broadcast as torch does. ``_remainder`` in that file is a short example. Its siblings in
``shapes`` move elements, and those in ``reductions`` combine them.
"""

from collections.abc import Mapping

from biper.lowering.operators import (
    activations,
    convolution,
    elementwise,
    indexing,
    normalization,
    ordering,
    parts,
    pooling,
    products,
    reductions,
    resize,
    shapes,
    trigonometry,
)
from biper.lowering.tracer import Handler

FAMILIES = (
    activations, convolution, elementwise, indexing, normalization, ordering, parts, pooling, products, reductions,
    resize, shapes, trigonometry,
)  # fmt: skip
"""The modules whose ``HANDLERS`` are joined. No operator is in two of them."""

HANDLERS: Mapping[str, Handler] = {name: handler for family in FAMILIES for name, handler in family.HANDLERS.items()}
"""The handler of every supported torch operator, by the operator's name."""
