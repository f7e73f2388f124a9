"""Budgets of devices: how they are read, what they say, and how far the cost model is from an emulated board."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.array_programs import gated_program
from support.boards import EXAMPLE, board
from support.networks import packed_network

from biper.errors import ExportError
from biper.runtime.pretrained import pretrained_file
from biper.runtime.program import write_program
from biper.runtime.reader import read_program
from biper.targets.c.budget import BudgetError, parse_budget
from biper.targets.c.costs import COSTS
from biper.targets.c.source import ARRAY_OPERATORS, BINARY_OPERATORS, OWN_OPERATORS, SHARED_OPERATORS, c_source
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.deploy import deploy, open_program


def test_budgets_are_read() -> None:
    assert parse_budget("flash=64k, RAM=1.5M,instructions=20M") == {
        "flash": 65536,
        "RAM": 1572864,
        "instructions": 20_000_000,
    }
    assert parse_budget("instructions=500k", ram="4096") == {"RAM": 4096, "instructions": 500_000}
    assert parse_budget(None) == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("flash=abc", "'abc' is no size: expected bytes, such as 4096, 128k or 1M"),
        ("instructions=20q", "'20q' is no number of instructions: expected one such as 500k, 20M or 1500000"),
        ("instructions=0", "'0' is no number of instructions"),
        ("speed=3", "budget='speed=3': 'speed=3' is no part of a budget: expected some of flash=SIZE, ram=SIZE and"),
        ("flash", "'flash' is no part of a budget"),
        ("flash=1k,", "'' is no part of a budget"),
        ("", "'' is no part of a budget"),
        ("flash=1k,flash=2k", "flash is given twice"),
        ("ram=1k", "ram is given twice: give it once, in budget=... or by itself"),
    ],
)
def test_other_budgets_are_refused(text: str, error: str) -> None:
    with pytest.raises(ExportError, match=re.escape(error)):
        parse_budget(text, ram="8k")


def test_instructions_are_limited_for_integers_alone() -> None:
    with pytest.raises(ExportError, match="instructions are estimated for integers alone: add integer_only=True, or"):
        parse_budget("instructions=1M", integer_only=False)


def test_every_operator_in_integers_has_costs() -> None:
    operators = {*SHARED_OPERATORS, *BINARY_OPERATORS, *OWN_OPERATORS, *ARRAY_OPERATORS}
    assert set(COSTS) == operators - {"levels_convolution"}  # that one is written in float32 alone


def test_instructions_of_operations_on_arrays_are_limited(tmp_path: Path) -> None:
    file = tmp_path / "gated.biper"
    file.write_bytes(write_program(gated_program()))
    row, _ = deploy(open_program(file), "c", tmp_path / "gated.c", integer_only=True, budget="instructions=1M")
    assert 50_000 < row["budget"]["instructions"]["needs"] < 1_000_000
    with pytest.raises(
        BudgetError, match=r"20,000 instructions are too little: .*test takes 0\.1\dM of the instructions"
    ):
        deploy(open_program(file), "c", tmp_path / "gated.c", integer_only=True, budget="instructions=0.02M")


def test_export_says_what_fits(tmp_path: Path) -> None:
    opened = open_program(pretrained_file("digits-cnn"))
    limits = "flash=64k,instructions=20M"
    row, text = deploy(opened, "c", tmp_path / "model.c", integer_only=True, budget=limits)
    lines = [line.split() for line in text.splitlines()]
    assert ["flash", "19.2k", "64k", "fits"] in lines
    assert ["RAM", "10.4k", "-"] in lines
    assert any(line[:1] == ["instructions"] and line[2:] == ["20M", "fits"] for line in lines)
    assert row["budget"]["RAM"] == {"needs": 10_688, "budget": None, "fits": True}
    assert json.loads(json.dumps(row)) == row


def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    opened = open_program(pretrained_file("digits-cnn"))
    with pytest.raises(BudgetError) as raised:
        deploy(opened, "c", tmp_path / "m.c", integer_only=True, budget="flash=64k,ram=4k,instructions=0.5M")
    text = str(raised.value)
    assert text.startswith("64k of flash, 4k of RAM and 0.5M instructions are too little: integer-only needs 19.2k of ")
    assert re.search(
        r"does not fit; 6\.4k of RAM and 0\.\d\dM instructions too much \(operation 1 \(block1\.conv1\)", text
    )
    assert re.search(
        r"block2\.conv2 takes 0\.\d\dM of the instructions\): fewer channels or layers, or a smaller", text
    )
    assert "\n" not in text
    assert ["RAM", "10.4k", "4k", "6.4k", "too", "much"] in [line.split() for line in raised.value.table.splitlines()]
    assert not list(tmp_path.iterdir())


def test_a_network_without_tables_fits_less_memory_and_takes_more_instructions() -> None:
    program = read_program(pretrained_file("digits-cnn"))
    tables, counted = (c_source(program, fixed=to_fixed_point(program), small=small) for small in (False, True))
    assert tables.instructions is not None
    assert counted.instructions is not None
    assert counted.instructions > 2 * tables.instructions
    assert counted.needs["RAM"] < tables.needs["RAM"]


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["W1A1", "W1A32"])
def test_instructions_are_close_to_those_of_an_emulated_board(bits: str, tmp_path: Path) -> None:
    board("cortex-m3")
    program = packed_network(tmp_path, "digits_cnn", "digits", bits)
    file = tmp_path / "network.biper"
    said = c_source(program, fixed=to_fixed_point(program)).instructions
    assert said is not None
    command = [
        sys.executable,
        EXAMPLE / "run.py",
        file,
        "--integer-only",
        "--images",
        "2",
        "--build",
        tmp_path / "build",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) instructions an image", text)
    assert found is not None
    assert abs(said / int(found[1]) - 1) <= 0.08  # what `biper.targets.c.instructions` says of sums of networks
