"""Standard output as a terminal that obeys nothing in the texts of files: neither control characters nor markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from biper.errors import printable


class PlainConsole(Console):
    """A console that shows every text as it is: names of classes, layers and files may come from anyone.

    Control characters are escaped, line breaks are kept; ``[bold]`` and ``:smile:`` stand for themselves.

    Args:
        **options: see `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text to draw; rich calls this for every string, also for those in tables."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)
