"""What files and names contain is shown on a terminal, and never obeyed by it. None of it needs torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attacks.packed_base import images
from support.pictures import picture
from typer.testing import CliRunner, Result

from biper.cli import tables
from biper.cli.app import app

NAMES = ["\x1b[31mred", "[bold]x[/bold] :smile:", "[/oops]\x07", "new\nline\u202e\x9b2J"]
"""Names of classes that a terminal or rich would obey."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    container = images()
    container.document["classes"] = NAMES
    for entry in container.document["operations"]:
        entry["source"] = f"\x1b[2J[red]{entry['source']}[/red]"
    (tmp_path / "m.biper").write_bytes(container.sealed())
    picture(1).save(tmp_path / "p\x1b[1m[b].png")
    (tmp_path / "no\x1b]0;title\x07.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(result: Result) -> str:
    """The output of a command, after checking that a terminal obeys nothing in it but the ends of its lines."""
    for stream in (result.stdout, result.stderr):
        assert all(letter.isprintable() for letter in stream.replace("\n", "")), repr(stream)
    return result.stdout


def test_predict_shows_names_of_classes_and_files_as_they_are(folder: Path) -> None:
    found = CliRunner().invoke(app, ["predict", "m.biper", ".", "--top-k", "4"])
    text = shown(found)
    assert "p\\x1b[1m[b].png: " in text
    assert found.stderr.startswith("warning: cannot read the image no\\x1b]0;title\\x07.png: ")
    for name in ("\\x1b[31mred", "[bold]x[/bold] :smile:", "[/oops]\\x07", "line\\u202e\\x9b2J"):
        assert name in text
    (row,) = json.loads(shown(CliRunner().invoke(app, ["predict", "m.biper", ".", "--top-k", "4", "--json"])))
    assert {chosen["name"] for chosen in row["classes"]} == set(NAMES)


@pytest.mark.parametrize(
    "command",
    [["inspect", "m.biper"], ["bench", "m.biper", "--seconds", "0.01", "--profile"]],
    ids=["inspect", "bench"],
)
def test_tables_show_names_of_layers_and_classes_as_they_are(folder: Path, command: list[str]) -> None:
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.exception
    assert "\\x1b[2J[red]first[/red]" in shown(found).replace("\n", "")
    if command[0] == "inspect":
        assert "\\x1b[31mred, [bold]x[/bold] :smile:, [/oops]\\x07, ..." in found.stdout


def test_a_message_of_training_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with tables.console.capture() as captured:
        tables.say("data of class \x1b[31ma[/b]\nand the next line")
    assert captured.get() == "data of class \\x1b[31ma[/b]\nand the next line\n"
