"""What README, CONTRIBUTING and the site print is true: Python, commands, options, recipes, links, paths, names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

from biper import load_recipe
from biper.cli.app import app
from biper.lowering.operators import HANDLERS
from biper.runtime.operations import OPERATIONS
from biper.targets.c import INTEGER_OPERATIONS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(ROOT)): page for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]}
PAGES["examples/README.md"] = ROOT / "examples" / "README.md"
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in sorted(PAGES.items())}
README = TEXTS["README.md"]


def code_blocks(language: str) -> list[tuple[str, str]]:
    """The code blocks of a language on all pages, each with the name of its page."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(name, code) for name, text in TEXTS.items() for code in pattern.findall(text)]


def programs() -> list[tuple[str, str]]:
    """The Python of all pages: each block is a program, and those of an example's page are one together."""
    blocks = code_blocks("python")
    examples = {
        page: "".join(code for name, code in blocks if name == page) for page in dict(blocks) if "examples/" in page
    }
    return [block for block in blocks if block[0] not in examples] + list(examples.items())


PYTHON = programs()
COMMANDS = [line for _, code in code_blocks("bash") for line in code.replace("\\\n", " ").splitlines()]
VERBS = sorted({found[1] for line in COMMANDS if (found := re.match(r"biper ([a-z][\w-]*)", line))} | {"quickstart"})
RECIPES = sorted({found[1] for line in COMMANDS if (found := re.search(r"biper train ([a-z][\w-]*)(?![\w.-])", line))})


def hooks() -> ModuleType:
    """The module that makes the generated pages."""
    spec = importlib.util.spec_from_file_location("biper_docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(text: str) -> set[str]:
    """The names that GitHub and MkDocs give the headings of a page."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", TEXTS)
def test_links_between_pages_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXTS[name]):
        path, _, anchor = link.partition("#")
        target = (PAGES[name].parent / path).resolve() if path else PAGES[name]
        if target.parent == DOCS / "quantizers" and target.suffix == ".svg":
            continue  # drawn when the site is built, which fails where one is missing
        assert target.exists(), link
        generated = target.is_relative_to(DOCS / "reference")
        assert not anchor or generated or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", TEXTS)
def test_paths_of_the_repository_exist(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", TEXTS[name], flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(r"`((?:src|native|tests|benchmarks|examples|docs)/[\w./-]+)`", text):
        if "mine" not in path:  # the name of what a reader adds
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{number}" for number, (page, _) in enumerate(PYTHON)])
def test_the_python_runs(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


def test_both_promised_commands_are_there() -> None:
    lines = README.splitlines()
    assert "pip install -c constraints.txt -e '.[train]' && biper quickstart" in lines
    assert "pip install -c constraints.txt -e '.[dev]' && pytest" in lines
    assert len(lines) <= 150


@pytest.mark.parametrize("verb", VERBS)
def test_the_verbs_and_their_options_exist(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]
    options = {option for parameter in command.params for option in parameter.opts} | {"--debug", "--help"}
    for line in COMMANDS:
        if re.search(rf"\bbiper {verb}(?![\w-])", line):
            given = re.findall(r"(?<=\s)--[a-z-]+", line.partition("#")[0].partition(f"biper {verb}")[2])
            assert set(given) <= options, line


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_exist_and_their_overrides_are_valid(name: str) -> None:
    lines = [line for line in COMMANDS if re.search(rf"biper train {name}(?![\w-])", line)]
    load_recipe(name, [override for line in lines for override in re.findall(r"--set ([\w.]+=[\w.-]+)", line)])


@pytest.mark.parametrize("code", [code for _, code in code_blocks("toml") if "[stage1]" in code])
def test_the_recipes_that_are_printed_are_valid(code: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(code, encoding="utf-8")
    assert load_recipe(path).description


def test_the_extras_that_the_install_page_names_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"^\| `\.\[(\w+)\]`", TEXTS["docs/start/install.md"], re.MULTILINE)
    assert sorted(named) == sorted(project["optional-dependencies"])


def test_the_code_map_names_every_package() -> None:
    folder = ROOT / "src" / "biper"
    there = {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    table = TEXTS["docs/architecture.md"].partition("| package of")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+(?:/|\.py))` \|", table, re.MULTILINE)
    assert set(named) == there
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    assert [name.removesuffix("/").removesuffix(".py") for name in named] == layers[0]["layers"]


@pytest.mark.parametrize(
    "module", ["biper", "biper.nn", "biper.quantizers", "biper.runtime", "biper.interop", "biper.hub", "biper.errors"]
)
def test_the_reference_has_every_public_name(module: str) -> None:
    page = TEXTS[f"docs/reference/python/{module.rpartition('.')[2]}.md"]
    named = re.findall(rf"^::: {re.escape(module)}\.(\w+)$", page, re.MULTILINE)
    assert len(named) == len(set(named))
    public = importlib.import_module(module)
    names = {name for name in getattr(public, "__all__", vars(public)) if not name.startswith("_")}
    if not hasattr(public, "__all__"):
        names = {name for name in names if getattr(getattr(public, name), "__module__", "") == module}
    documented = {
        name for name in names if inspect.isroutine(getattr(public, name)) or inspect.isclass(getattr(public, name))
    }
    assert set(named) == documented


def public_callables() -> dict[str, object]:
    """Functions and classes on the reference pages, by their dotted names."""
    found = {}
    for name, text in TEXTS.items():
        if name.startswith("docs/reference/python/"):
            for dotted in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE):
                module, _, last = dotted.rpartition(".")
                found[dotted] = getattr(importlib.import_module(module), last)
    return found


@pytest.mark.parametrize(("name", "thing"), public_callables().items(), ids=list(public_callables()))
def test_a_public_docstring_describes_the_arguments_that_there_are(name: str, thing: object) -> None:
    text = inspect.getdoc(thing)
    assert text, name
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    described = (
        re.findall(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:", section[1], re.MULTILINE) if section else []
    )
    described = [argument.lstrip("*") for group in described for argument in group.split(", ")]
    assert callable(thing)
    is_error = inspect.isclass(thing) and issubclass(thing, BaseException)  # takes a text, and describes no argument
    taken = set() if is_error else set(inspect.signature(thing).parameters)
    assert set(described) <= taken or taken >= {"args", "kwargs"}


def test_the_command_line_reference_has_every_verb_and_option() -> None:
    page = hooks().command_line()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.split(f"## `biper {name}`\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if not parameter.hidden and parameter.name != "help":
                spelled = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
                assert f"`{spelled}" in section, (name, spelled)


def test_the_recipe_reference_has_every_key_that_recipes_of_the_package_use() -> None:
    page = hooks().recipe_keys()
    for path in (ROOT / "src" / "biper" / "recipes").glob("*.toml"):
        for table, content in tomllib.loads(path.read_text(encoding="utf-8")).items():
            for key in content if isinstance(content, dict) else [table]:
                assert re.search(rf"^\| `{key}` \|", page, re.MULTILINE) or (table, key) == ("method", "name"), key


def test_the_recipe_reference_says_what_every_key_means() -> None:
    rows = [line for line in hooks().recipe_keys().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_the_operator_reference_has_every_operation_and_what_each_target_has() -> None:
    page = hooks().operators()
    head, _, *rows = page.split("\n\n")[0].splitlines()
    column = [cell.strip() for cell in head.split("|")].index("C, integers")
    assert len(rows) == len(OPERATIONS)
    for row, (name, spec) in zip(rows, OPERATIONS.items(), strict=True):
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[1] == f"[`{name}`](#{name})"
        assert cells[column] == ("yes" if name in INTEGER_OPERATIONS else "no")
        section = page.split(f"## `{name}`\n")[1].split("\n## ")[0]
        assert spec.summary in section
        assert all(f"`{operator}`" in section for operator in spec.torch)
    listed = page.split("## Torch operators\n")[1]
    assert all(f"`{operator}`" in listed for operator in HANDLERS if not operator.startswith("_"))


def test_the_picture_of_the_wave_is_what_its_script_draws() -> None:
    spec = importlib.util.spec_from_file_location("biper_docs_wave", DOCS / "wave_picture.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    stored = script.PICTURE.read_text(encoding="utf-8")
    for name, points in script.curves().items():
        numbers = re.search(rf'id="{name}" points="([^"]*)"', stored)
        assert numbers is not None
        drawn = [tuple(map(float, point.split(","))) for point in numbers[1].split()]
        expected = [script.place(*point, 1 if name == "gradient" else 0) for point in points]
        assert len(drawn) == len(expected)
        worst = max(
            abs(a - b) for one, other in zip(drawn, expected, strict=True) for a, b in zip(one, other, strict=True)
        )
        assert worst <= 0.051, name  # coordinates are rounded to a tenth of a pixel
