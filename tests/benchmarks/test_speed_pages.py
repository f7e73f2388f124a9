"""No page has a table of speed that is typed by hand: tables of speed come from the records of machines."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from support.benchmarks import BENCHMARKS, schema, summary

ROOT = BENCHMARKS.parent
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
SHORT_TIME = r"(?:ms|µs|us|ns|milliseconds|microseconds|nanoseconds)"
RATIO = r"\d times\b(?! an? (?:second|minute|hour|day)\b)"
"""A ratio in words; how often something happens, as in "5 times a second", is none."""
SPEED = re.compile(rf"\d\s*{SHORT_TIME}\b|images/s|images a second|{RATIO}|(?:^|[|,(]|\bin )\s*{SHORT_TIME}\b")
"""A time below a second with its unit, a rate of images, or a ratio in words, anywhere in a table or in its head."""
SUMMARY = "<!-- speed: summary -->\n"


def typed_tables(text: str) -> list[str]:
    """The tables of speed that stand in the text of a page, but for the one of the README that a record wrote."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for match in re.finditer(r"(?:^[ \t]*\|.*(?:\n|\Z))+", text, re.MULTILINE):
        if SPEED.search(match[0]) and not text[: match.start()].endswith(SUMMARY):
            found.append(match[0])
    return found


@pytest.mark.parametrize(
    "table",
    [
        "| network | time |\n| --- | --- |\n| small | 0.5 ms |\n",
        "| network | time, ms |\n| --- | --- |\n| small | 0.5 |\n",
        "| network | time (µs) |\n| --- | --- |\n| small | 0.5 |\n",
        "| network | images/s |\n| --- | --- |\n| small | 4,000 |\n",
        "| engine | takes |\n| --- | --- |\n| other | 3.1 times as long |\n",
    ],
)
def test_a_table_of_speed_that_is_typed_by_hand_is_found(table: str) -> None:
    assert typed_tables(f"Text.\n\n{table}\nText.\n") == [table]


@pytest.mark.parametrize(
    "table",
    [
        "| network | test % |\n| --- | --- |\n| items | 79.24 |\n",
        "| programs | 3 runs |\n",
        "| on the board | instructions |\n| --- | --- |\n| network, 5 times a second | 20.9 M |\n",
    ],
)
def test_a_table_of_something_else_is_not(table: str) -> None:
    assert typed_tables(table) == []


@pytest.mark.parametrize("name", PAGES)
def test_no_table_of_speed_is_typed_by_hand(name: str) -> None:
    assert typed_tables(PAGES[name]) == [], f"{name}: put the rows into a record of benchmarks/all.py"


def test_the_table_of_the_readme_is_that_of_a_record() -> None:
    text = PAGES["README.md"].partition(SUMMARY)[2].partition("\n\n")[0]
    records = [record for record in schema.read_results() if record.comparisons.engines is not None]
    assert text in [summary.summary(record) for record in records]


def site_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("biper_docs_speed", ROOT / "docs" / "speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_marker_becomes_tables_and_every_comparison_is_on_a_page() -> None:
    hook = site_hook()
    markers = {name for page, text in PAGES.items() for name in hook.MARKER.findall(text) if page != "README.md"}
    assert "all" in markers
    for name in markers:
        assert "| --- |" in hook.tables_of(name), name
    with pytest.raises(KeyError):
        hook.tables_of("unheard")
    measured = {name for record in schema.read_results() for name, found in record.comparisons if found is not None}
    assert measured <= markers


def test_every_record_that_is_kept_is_whole() -> None:
    paths = sorted(Path(schema.RESULTS).glob("*.json"))
    assert len(paths) >= 2
    for path in paths:
        record = schema.read_record(path)
        assert not [name for name, found in record.comparisons if found is not None and found.quick], path
