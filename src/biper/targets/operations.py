"""The error for an operation that a target lacks. Each target package lists in ``OPERATIONS`` those that it has."""

from __future__ import annotations

from collections.abc import Collection

from biper.errors import ExportError
from biper.runtime.program import Operation, Program


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
    """Check that a target has every operation of a program; see `unsupported` for the arguments.

    Raises:
        ExportError: it lacks one.
    """
    for op in program.operations:
        if op.operation not in operations:
            raise unsupported(op, target, operations)
