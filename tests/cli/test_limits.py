"""The limits of packed files on the command line: --max-memory and --max-work. None of it needs torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from biper.cli.app import app
from biper.cli.flags import with_flags
from biper.cli.paths import limits_of
from biper.errors import ModelError, ModelFormatError
from biper.runtime import Model, load_pretrained
from biper.runtime.pretrained import pretrained_file

MODEL = "cifar10-resnet20"
COMMANDS = (
    ["predict", MODEL, "missing.png"],
    ["bench", MODEL, "--seconds", "0.01"],
    ["inspect", MODEL, "--json"],
    ["evaluate", str(pretrained_file(MODEL)), "--data", "cifar10", "--data-dir", "missing"],
    ["export", MODEL, "--format", "c", "--out", "model"],
)
"""Every command that loads a packed file."""


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
@pytest.mark.parametrize(
    ("flag", "value", "error"),
    [
        ("--max-memory", "100k", "more than --max-memory 102,400 allows"),
        ("--max-work", "1000", "more than --max-work 1,000 allows"),
    ],
)
def test_every_command_that_loads_a_packed_file_takes_the_limits(
    command: list[str], flag: str, value: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, [*command, flag, value]).exception
    assert isinstance(found, ModelFormatError), found
    assert with_flags(str(found)).endswith(error)
    assert list(tmp_path.iterdir()) == []
    enough = CliRunner().invoke(app, [*command, "--max-memory", "1M", "--max-work", "50000000"]).exception
    assert not isinstance(enough, ModelFormatError)


def test_sizes_and_their_errors() -> None:
    assert limits_of(None, None) == {}
    assert limits_of("1.5M", 7) == {"max_memory": 1_572_864, "max_work": 7}
    assert limits_of("2G", None) == {"max_memory": 2 << 30}
    with pytest.raises(ModelError) as error:
        limits_of("12x", None)
    assert with_flags(str(error.value)) == ("--max-memory: '12x' is no size: expected bytes, such as 4096, 128k or 1M")


@pytest.mark.parametrize("name", ["max_memory", "max_work"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "1M", None, True, float("nan")])
def test_a_limit_that_is_none_is_an_error_of_biper(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=rf"{name}=\.\.\. expects a positive integer, got "):
        Model.load(pretrained_file(MODEL), **{name: value})  # type: ignore[arg-type]


def test_a_limit_may_be_larger_than_every_file() -> None:
    model = Model.load(pretrained_file(MODEL), max_memory=10**30, max_work=10**30)
    assert model.classes == load_pretrained(MODEL).classes
