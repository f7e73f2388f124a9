"""What MkDocs calls while it builds the site: the tables of speed, from the records in ``benchmarks/results``.

A page on disk holds a marker such as ``<!-- speed: engines -->``; it becomes the tables of this comparison, one for
each machine that has it. ``<!-- speed: all -->`` becomes all tables by machine. `mkdocs.yml` names this file. A table
of speed that is typed by hand fails `tests/benchmarks/test_speed_pages.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.pages import Page

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
MARKER = re.compile(r"<!-- speed: (\w+) -->")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replace the markers of a page by tables."""

    def made(match: re.Match[str]) -> str:
        try:
            return tables_of(match[1])
        except KeyError:
            raise KeyError(f"{page.file.src_uri}: no comparison of speed is named {match[1]!r}") from None

    return MARKER.sub(made, markdown)


def tables_of(name: str) -> str:
    """The tables of one comparison of speed, one for each machine, or with ``all`` those of all comparisons.

    Raises:
        KeyError: there is no such comparison.
    """
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    from records import schema, tables

    records = schema.read_results()
    return tables.page(records) if name == "all" else tables.comparison(name, records)
