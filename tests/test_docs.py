"""What the README and docs/reproduce.md print works: Python, commands, options, recipes; links between pages too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Biper

from biper import load_recipe

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = README + (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
VERBS = sorted(set(re.findall(r"^biper ([\w-]+)", PAGES, re.MULTILINE)) | {"quickstart"})
RECIPES = sorted(set(re.findall(r"biper train ([\w-]+)", PAGES)))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


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
