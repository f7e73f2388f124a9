"""What the README and docs/reproduce.md print works: Python runs; commands, options and recipes exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Biper

from biper import load_recipe

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = README + (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
VERBS = sorted(set(re.findall(r"^biper ([\w-]+)", PAGES, re.MULTILINE)) | {"quickstart"})
RECIPES = sorted(set(re.findall(r"biper train ([\w-]+)", PAGES)))


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_both_promised_commands_are_there() -> None:
    assert "pip install -c constraints.txt -e '.[train]' && biper quickstart\n" in README
    assert "pip install -c constraints.txt -e '.[dev]' && pytest\n" in README


@pytest.mark.parametrize("verb", VERBS)
def test_the_verbs_and_their_options_exist(verb: str, biper: Biper) -> None:
    text = biper(verb, "--help", COLUMNS="200").stdout
    for line in re.findall(rf"^biper {verb}.*", PAGES, re.MULTILINE):
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert option in text, line


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_exist_and_their_overrides_are_valid(name: str) -> None:
    lines = re.findall(rf"biper train {name}(?![\w-]).*", PAGES)
    load_recipe(name, [override for line in lines for override in re.findall(r"--set ([\w.]+=[\w.-]+)", line)])
