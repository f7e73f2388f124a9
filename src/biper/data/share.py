"""The share of a batch or of a split that one of several processes works on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Part ``index`` (from 0) of ``count`` consecutive parts, whose sizes differ by at most one item."""

    index: int = 0
    count: int = 1

    def of(self, total: int) -> slice:
        """The items of this part among ``total`` items; each item is in exactly one part."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)


ALL = Share()
"""The share of a process that works alone: everything."""
