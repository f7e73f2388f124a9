"""What a person meets at the terminal: hints, words before long imports, narrow terminals, early checks."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console
from support.networks import trained_like
from typer.testing import CliRunner

from biper.cli import loading, tables
from biper.cli.app import app, main
from biper.errors import BiperError
from biper.lowering.verify import ExportReport
from biper.models.saved import ModelInfo, save_model
from biper.runs.folder import RunFolder

FINISHED = Path(__file__).resolve().parents[1] / "data" / "released" / "0.1" / "finished"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("train digits --momentum 0.9", "did you mean --set stage1.momentum=VALUE, --set stage2.momentum=VALUE (see"),
        ("train digits --wieght-decay 0.9", "did you mean --set stage1.weight_decay=VALUE"),
        ("train digits --stage1.momentun 0.9", "did you mean --set stage1.momentum=VALUE (see biper train --help)"),
        ("compare digits --temperature 1", "did you mean --set teacher.temperature=VALUE"),
        ("train digits --zzzzzz 1", "No such option: --zzzzzz (see"),
        ("bench m.biper --momentum 1", "No such option: --momentum (see biper bench --help)"),
    ],
)
def test_an_unknown_option_may_be_a_key_of_the_recipe(
    arguments: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["biper", *arguments.split()])
    monkeypatch.setattr("biper.cli.app.ignore_interrupts", lambda: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err


def test_long_imports_have_a_word_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loading.say_loading()
    monkeypatch.delitem(sys.modules, "torch")
    loading.say_loading()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    loading.say_loading()
    assert capsys.readouterr().err == "loading PyTorch\n"


def test_the_results_of_a_run_fold_in_a_narrow_terminal() -> None:
    """The path of the run folder, which a person copies, is there in full."""
    summary = RunFolder(FINISHED).read_summary()
    assert summary is not None
    folder = Path("runs") / "a-very-long-name-of-an-experiment-that-does-not-fit-into-forty-columns" / "seed-0"
    report = ExportReport(**dict.fromkeys(ExportReport.__dataclass_fields__, 1))
    text = io.StringIO()
    Console(file=text, width=60).print(tables.run_table(summary, report, folder))
    assert "…" not in text.getvalue()
    last = [line.split("│")[2].strip() for line in text.getvalue().splitlines() if line.count("│") == 3]
    assert str(folder) in "".join(last)


WORK = (
    "biper.report.analysis.analyze_run",
    "biper.targets.packed.saved.pack_saved",
    "biper.models.saved.load_model",
    "biper.runtime.engine.Engine.run",
    "biper.report.methods.train",
    "biper.runtime.model.Model.prepare",
)
"""What takes time in these commands."""


def worked(*_arguments: object, **_options: object) -> None:
    raise AssertionError("the work began")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("analyze run --compare nowhere", "no run folder nowhere"),
        ("analyze run --out nowhere/page.html", "there is no folder nowhere"),
        ("analyze run --out run", "run is a folder"),
        ("export run --out nowhere/model.biper", "there is no folder nowhere"),
        ("export run --format html --out nowhere/x", "there is no folder nowhere"),
        ("export run --format c --ram lots", "'lots' is no size"),
        ("export run --format c --budget flash=abc", "flash: 'abc' is no size"),
        ("export run --format c --budget speed=1", "'speed=1' is no part of a budget"),
        ("export run --format c --budget instructions=1M", "instructions are estimated for integers alone"),
        (
            "export run --format html --budget ram=1k",
            "--budget, --calibrate, --value-bits and --input are for --format c",
        ),
        ("export run --format c --value-bits 32", r"value_bits=32 is for integers alone: add integer_only=True"),
        ("export run --format html --value-bits 32", "--value-bits and --input are for --format c"),
        ("evaluate run --split tests", "split must be one of"),
        ("bench cifar10-resnet20 --against torch,nobody", "nobody"),
        ("bench cifar10-resnet20 --isa nobody", "nobody"),
        ("bench cifar10-resnet20 --batch 100000000000", r"batch=\.\.\. expects at most"),
        ("compare digits --methods biper,nobody", "nobody"),
        ("compare digits --methods biper --learning-rates 1,x", "'?x'?"),
        ("compare digits --methods biper --set stage1.epochs=0", r"stage1\.epochs"),
        ("predict cifar10-resnet20 x.png --out map.png", r"out=\.\.\. is for a model that gives maps"),
    ],
)
def test_options_are_checked_before_the_work(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    info = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.5,), (0.25,), ())
    Path("run").mkdir()
    save_model("run/model.safetensors", trained_like("digits_cnn", "digits"), info)
    for work in WORK:
        monkeypatch.setattr(work, worked)
    with pytest.raises(BiperError, match=message):
        CliRunner().invoke(app, arguments.split(), catch_exceptions=False)
    assert [path.name for path in Path().iterdir()] == ["run"]
    assert [path.name for path in Path("run").iterdir()] == ["model.safetensors"]
