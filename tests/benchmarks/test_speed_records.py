"""Records of speed: what they refuse, and the tables that are made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.benchmarks import schema, summary, tables

MEASURED: dict[str, Any] = {
    "command": "python benchmarks/all.py --only engines --json FILE",
    "date": "2026-11-27",
    "commit": "0123abc",
    "processors": [1],
    "load": 0.5,
    "took": 12.5,
    "versions": {"openvino": "2026.4.1"},
    "quick": False,
    "source": None,
    "left_out": {"torch": "it is not installed"},
}
ENGINES = [
    {"network": "small", "batch": 1, "engine": "biper", "median": 0.0005, "ratio": 1.0},
    {"network": "small", "batch": 1, "engine": "openvino float32", "median": 0.004, "ratio": 8.0},
    {"network": "small", "batch": 1, "engine": "onnxruntime float32", "median": 0.0051, "ratio": 10.2},
    {"network": "small", "batch": 64, "engine": "biper", "median": 0.025, "ratio": 1.0},
]
MACHINE = {
    "title": "A machine",
    "processor": "Processor 1",
    "instruction_sets": ["avx2"],
    "cores": 2,
    "system": "Linux",
    "compiler": None,
}


def content(**changes: object) -> dict[str, Any]:
    """A record as JSON; ``changes`` are made to its comparison of engines."""
    engines = {**MEASURED, "rows": ENGINES} | changes
    return {"format": 1, "machine": MACHINE, "comparisons": {"engines": engines}}


def written(record: object, folder: Path) -> Path:
    path = folder / "machine.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def test_a_table_has_a_row_for_each_network_and_a_column_for_each_engine(tmp_path: Path) -> None:
    record = schema.read_record(written(content(), tmp_path))
    assert tables.shown("engines", record).splitlines() == [
        "| network | images a call | biper | openvino float32 | onnxruntime float32 |",
        "| --- | --- | --- | --- | --- |",
        "| small | 1 | 0.5 ms | 4 ms (8) | 5.1 ms (10.2) |",
        "| small | 64 | 25 ms |  |  |",
        "",
        "A machine, processor 1, 2026-11-27, commit 0123abc, load at the start 0.5, openvino 2026.4.1: "
        "`python benchmarks/all.py --only engines --json FILE`. Left out: torch (it is not installed).",
    ]
    assert tables.shown("training", record) == ""


def test_the_caption_says_what_a_reader_must_not_overlook(tmp_path: Path) -> None:
    record = schema.read_record(written(content(quick=True, source="Taken from a page."), tmp_path))
    text = tables.shown("engines", record)
    assert "**Measured with few repetitions.** Taken from a page." in text


def test_the_summary_names_the_best_engine_of_each_kind(tmp_path: Path) -> None:
    record = schema.read_record(written(content(), tmp_path))
    assert summary.summary(record).splitlines()[2:] == ["| small | 0.5 ms | 8.0 times |  |  |"]


def test_the_page_shows_every_comparison_of_every_machine(tmp_path: Path) -> None:
    record = schema.read_record(written(content(), tmp_path))
    other = record.model_copy(update={"machine": record.machine.model_copy(update={"title": "Another"})})
    page = tables.page([record, other])
    assert page.count("### Against other engines") == 2
    assert page.index("## A machine") < page.index("## Another")


def without(key: str) -> dict[str, Any]:
    record = content()
    del record["comparisons"]["engines"][key]
    return record


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (without("load"), "comparisons.engines.load: Field required"),
        (content(speed=1), "comparisons.engines.speed: Extra inputs are not permitted"),
        (content(rows=[{**ENGINES[0], "median": -1.0}]), "engines.rows.0.median: Input should be greater than 0"),
        (content(rows=[{**ENGINES[0], "extra": 1}]), "engines.rows.0.extra: Extra inputs"),
        (content(rows=[]), "engines.rows: "),
        (content() | {"format": 2}, "format: Input should be 1"),
        ({**content(), "comparisons": {"unheard": 1}}, "comparisons.unheard: Extra inputs"),
        ([], "the file: "),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(record: object, says: str, tmp_path: Path) -> None:
    path = written(record, tmp_path)
    with pytest.raises(schema.RecordError) as refused:
        schema.read_record(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_cut_or_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    path = written(content(), tmp_path)
    path.write_text(path.read_text()[:-20])
    for broken in (path, tmp_path / "nothing.json"):
        with pytest.raises(schema.RecordError) as refused:
            schema.read_record(broken)
        assert "\n" not in str(refused.value)


def test_a_record_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    record = schema.read_record(written(content(), tmp_path))
    schema.write_record(record, tmp_path / "again.json")
    assert schema.read_record(tmp_path / "again.json") == record


def test_every_comparison_has_a_table() -> None:
    assert set(tables.TABLES) == set(schema.Comparisons.model_fields)
