"""The packed file, `.biper`, written from a torch model once both agree on images."""

from biper.runtime.operations import OPERATIONS as ALL_OPERATIONS

OPERATIONS = frozenset(ALL_OPERATIONS)
"""The operations that a packed file can have: every one that `biper.runtime.program` defines."""
