"""The operations of packed programs: one table with what each is called, checks and computes, in a file a family.

`biper.runtime.program` describes the file. To add an operation, write its `OperationSpec` in the file of its family,
with its rule and what it computes in NumPy; the reader, the reference and the documentation take it from the table.
`CONTRIBUTING.md` lists what else an operation touches: a handler in `biper.lowering.operators` and the targets.
"""

from __future__ import annotations

from collections.abc import Mapping

from biper.runtime.operations import arithmetic, convolution, images, moves, reductions
from biper.runtime.operations.spec import OperationSpec

FAMILIES = (convolution, images, arithmetic, reductions, moves)
"""The modules whose ``OPERATIONS`` are joined."""

OPERATIONS: Mapping[str, OperationSpec] = {spec.name: spec for family in FAMILIES for spec in family.OPERATIONS}
"""Every operation by its name."""
