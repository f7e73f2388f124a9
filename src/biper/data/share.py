"""The part of a batch, or of a split, that one of several processes works on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``count`` parts, which lie one after the other and differ by at most one item in size."""

    index: int = 0
    count: int = 1

    def of(self, total: int) -> slice:
        """The items of this part among ``total``; all parts together hold every item once."""
        return slice(total * self.index // self.count, total * (self.index + 1) // self.count)


ALL = Share()
"""Everything: the share of a process that works alone."""
