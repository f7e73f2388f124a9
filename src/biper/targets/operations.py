"""The error for an operation that a target lacks. Each target package lists in ``OPERATIONS`` those that it has."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from biper.errors import ExportError
from biper.runtime.program import Operation, Program, are_usable


def unsupported(op: Operation, target: str, operations: Collection[str]) -> ExportError:
    """The error to raise for an operation that a target lacks.

    Args:
        op: the operation.
        target: the target's name, for people.
        operations: the ``OPERATIONS`` of the target's package.
    """
    return ExportError(
        f"{op.source}: the operation {op.operation!r} cannot be written as {target}, which has "
        f"{', '.join(sorted(operations))}; export to another format, or change that module"
    )


def require_operations(program: Program, target: str, operations: Collection[str]) -> None:
    """Check that a target has every operation of a program, and that its numbers are those of one.

    Args:
        program, target, operations: see `unsupported`.

    Raises:
        ExportError: it lacks one, or see `require_usable_numbers`.
    """
    require_usable_numbers(program)
    for op in program.operations:
        if op.operation not in operations:
            raise unsupported(op, target, operations)


def require_usable_numbers(program: Program, *, infinity: bool = True) -> None:
    """Check that all numbers of a program are finite but those of constants, which may be infinite.

    Args:
        program: the program.
        infinity: whether the target has infinity, so that constants may have it.

    Raises:
        ExportError: one is NaN or infinite; the text names its operation and its tensor.
    """
    if not np.isfinite([*program.mean, *program.std]).all():
        raise ExportError(f"the normalization has NaN or infinity: mean {program.mean}, std {program.std}")
    for op in program.operations:
        for name, values in op.tensors.items():
            if not are_usable(op.operation if infinity else "", values):
                raise ExportError(f"{op.source}: its {name} has values that are NaN or infinite")
