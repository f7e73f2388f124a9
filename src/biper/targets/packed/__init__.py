"""The packed file, `.biper`, written from a torch model once both agree on images."""

from biper.runtime import operations

OPERATIONS = frozenset(operations.OPERATIONS)
"""The operations that a packed file can have: every one that there is."""
