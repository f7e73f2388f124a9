"""Errors of the library name arguments of Python; the command line prints its flags in their place."""

from __future__ import annotations

import pytest
import typer

from biper.cli.app import app
from biper.cli.flags import FLAGS, with_flags


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("no folder x: data_dir=... expects a folder", "no folder x: --data-dir expects a folder"),
        (
            "runs/x already holds a run: add resume=True to continue",
            "runs/x already holds a run: add --resume to continue",
        ),
        ('device="cuda" needs a GPU: use device="cpu"', "--device cuda needs a GPU: use --device cpu"),
        ("float_layers='int8', please", "--float-layers int8, please"),
        ("give stage=1 or stage=2.", "give --stage 1 or --stage 2."),
        ("wait longer with step_timeout=120.5", "wait longer with --step-timeout 120.5"),
        ('accept more with overrides=["data.max_unreadable=N"]', "accept more with --set data.max_unreadable=N"),
        ("workers=0, or out=... elsewhere", "--workers 0, or --out elsewhere"),
        ("leave devices=... and machines=... out", "leave --devices and --nodes out"),
        ("(factors=... expects 1,10,30)", "(--learning-rates expects 1,10,30)"),
    ],
)
def test_an_argument_becomes_its_flag(message: str, printed: str) -> None:
    assert with_flags(message) == printed


@pytest.mark.parametrize(
    "message",
    [
        "unknown key 'stage1.frequency'; did you mean 'model.frequency'?",
        "--set expects key=value such as model.frequency=10, got 'seed=3'",
        "stage1.seed=3 and my_seed=3 and --seed=3 and /data/out=1/x",
        "num_classes=10 has no flag",
        "out=folder, resume=Trueish and data_dir = 3",
        "the frequency and the stage are words here",
    ],
)
def test_other_text_stays_as_it_is(message: str) -> None:
    assert with_flags(message) == message


def test_every_flag_of_the_table_is_one_of_a_command() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    flags = {flag for command in commands for parameter in command.params for flag in parameter.opts}
    assert set(FLAGS.values()) <= flags
