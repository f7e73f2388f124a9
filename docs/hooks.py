"""What MkDocs calls while it builds the site: pages and pictures that are made from the code itself.

A page on disk holds a marker such as ``<!-- generated: command line -->``. This module replaces the marker by Markdown
that it makes from the code, so that the page cannot disagree with the program. `mkdocs.yml` names this file.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import tempfile
from collections.abc import Callable, Container, Iterable
from enum import Enum
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the page of every quantizer to the navigation, so that a new page needs no entry in ``mkdocs.yml``."""
    pages = sorted(path.name for path in (DOCS / "quantizers").glob("*.md") if path.name != "index.md")
    nav: list[Any] = config.nav or []
    if pages and not any("Quantizers" in entry for entry in nav):
        place = next(number for number, entry in enumerate(nav) if "Results" in entry)
        nav.insert(place, {"Quantizers": [f"quantizers/{name}" for name in ("index.md", *pages)]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Draw the plots of the quantizers and add them to the site, beside the pages that show them."""
    drawing = DOCS / "plots.py"
    if not drawing.exists():
        return files
    spec = importlib.util.spec_from_file_location("biper_docs_plots", drawing)
    assert spec is not None
    assert spec.loader is not None
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    folder = Path(tempfile.mkdtemp(prefix="biper-plots-"))
    plots.draw(folder)
    for picture in sorted(folder.glob("*.svg")):
        source = f"quantizers/{picture.name}"
        present = files.get_file_from_path(source)
        if present is not None:
            files.remove(present)
        files.append(File.generated(config, source, content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replace the markers of a page by what the code says."""

    def made(match: re.Match[str]) -> str:
        name = match[1]
        if name not in GENERATED:
            raise KeyError(f"{page.file.src_uri}: no generator is named {name!r}; there are {', '.join(GENERATED)}")
        return GENERATED[name]()

    return re.sub(r"<!-- generated: ([\w .]+) -->", made, markdown)


# The command line


def command_line() -> str:
    """Every verb of ``biper``: its help, its arguments and its options with their defaults, as Markdown."""
    import typer

    from biper.cli.app import app

    group: Any = typer.main.get_command(app)
    parts = [_parameters(group, "Options of every verb")]
    parts += [_verb(f"biper {name}", command) for name, command in sorted(group.commands.items()) if not command.hidden]
    return "\n\n".join(part for part in parts if part)


def _verb(name: str, command: Any) -> str:
    """The section of one verb; a group of verbs is followed by the sections of its own verbs."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *(_metavar(argument) for argument in arguments)])
    parts = [f"## `{name}`", inspect.cleandoc(command.help or ""), f"```text\n{usage}\n```"]
    parts += [_parameters(command, "Arguments", "argument"), _parameters(command, "Options", "option")]
    parts += [_verb(f"{name} {verb}", below) for verb, below in sorted(getattr(command, "commands", {}).items())]
    return "\n\n".join(part for part in parts if part)


def _parameters(command: Any, title: str, kind: str = "option") -> str:
    """A table of the parameters of one kind, or nothing where there are none."""
    rows = []
    for parameter in command.params:
        if parameter.param_type_name != kind or getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        rows.append((_spelling(parameter), _cell(getattr(parameter, "help", "") or ""), _default(parameter)))
    if not rows:
        return ""
    heads = (title, "what it is", "default")
    return _table(heads if any(row[2] for row in rows) else heads[:2], rows)


def _spelling(parameter: Any) -> str:
    """How a parameter is written, with the values that it takes."""
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    spelling = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return spelling
    kind = parameter.type_descriptor.annotation
    if parameter.metavar:
        return f"{spelling} `{parameter.metavar}`"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{spelling} " + ", ".join(f"`{choice.value}`" for choice in kind)
    words = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return f"{spelling} `{words.get(kind, 'VALUE')}`"


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs == -1 and not name.endswith("...") else str(name)


def _default(parameter: Any) -> str:
    """The default of a parameter as the command line takes it; nothing where there is none."""
    value = parameter.default
    if parameter.required or value in (None, False, "", ()) or "UNSET" in repr(value) or callable(value):
        return "required" if parameter.required else ""
    return f"`{getattr(value, 'value', value)}`"


# The keys of a recipe


def recipe_keys() -> str:
    """Every table of a recipe and every key in it, with type, default and meaning, as Markdown."""
    from biper.methods.presets import METHODS
    from biper.methods.settings import CHOICES, Method
    from biper.recipes.schema import Recipe

    tables = {"": Recipe} | {
        name: model for name, field in Recipe.model_fields.items() for model in _models(field.annotation)[:1]
    }
    del tables["method"]
    parts = []
    for name, model in tables.items():
        title = f"## `[{name}]`" if name else "## Keys at the top"
        if name == "stage2":
            continue
        if name == "stage1":
            title = "## `[stage1]` and `[stage2]`"
        parts += [title, _summary(model), _settings_table(model)]
    meanings = _attribute_docstrings(Method)
    heads = ("key", "type", "default", "what it is")
    keys = [("`name`", "text", "", "The published method that stands for its three choices; see the next table.")]
    keys += [
        (f"`{key}`", "name or table", f"`{_toml(Method.model_fields[key].default.name)}`", _cell(meanings[key]))
        for key in CHOICES
    ]
    parts += ["## `[method]`", _summary(Method), _table(heads, keys), _settings_table(Method)]
    published = [
        (f"`{name}`", f"`{each.weights}`", f"`{each.inputs}`", f"`{each.activation}`", _cell(each.about))
        for name, each in METHODS.items()
    ]
    parts.append(_table(("name", *CHOICES, "what it is"), published))
    for key, kinds in CHOICES.items():
        for name, kind in kinds.items():
            own = _settings_table(kind, leave_out={"name"})
            parts += [f"### `{key}` = `{name}`", _summary(kind), own or "It has no options."]
    return "\n\n".join(part for part in parts if part)


def packaged_recipes() -> str:
    """A table of the recipes that come with the package."""
    from biper.recipes.load import load_recipe, recipe_names

    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        epochs = " + ".join(str(stage.epochs) for stage in recipe.stages)
        rows.append((f"[`{name}`](#{name})", _cell(recipe.description), epochs))
    texts = []
    for name in recipe_names():
        text = resources.files("biper.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8").strip()
        texts.append(f"### {name}\n\n```toml\n{text}\n```")
    return "\n\n".join([_table(("recipe", "what it trains", "epochs"), rows), *texts])


def _settings_table(model: Any, leave_out: Container[str] = ()) -> str:
    """The keys of one settings class that are no tables themselves."""
    meanings = _attribute_docstrings(model)
    rows = []
    for key, field in model.model_fields.items():
        if key in leave_out or _models(field.annotation):
            continue
        default = "required" if field.is_required() else "" if field.default is None else f"`{_toml(field.default)}`"
        meaning = field.description or meanings.get(key, "")
        rows.append((f"`{key}`", _type_name(field.annotation, field.metadata), default, _cell(meaning)))
    return _table(("key", "type", "default", "what it is"), rows) if rows else ""


def _models(annotation: Any) -> list[Any]:
    """The settings classes in an annotation."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _type_name(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its bounds."""
    bounds = []
    for rule in metadata:
        for part in (rule, *getattr(rule, "metadata", ())):
            for attribute, symbol in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
                if getattr(part, attribute, None) is not None:
                    bounds.append(f"{symbol} {_number(getattr(part, attribute))}")
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type_name(parts[0], annotation.__metadata__)
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type_name(part, metadata) for part in parts if part is not type(None))
    if origin is tuple and Ellipsis in parts:
        return f"list of any of {_type_name(parts[0])}"
    if origin is tuple:
        return "list of " + " and ".join(_type_name(part) for part in parts)
    words = {float: "number", int: "integer", bool: "true or false", str: "text"}
    return " ".join(
        [words.get(annotation, getattr(annotation, "__name__", str(annotation))), ", ".join(bounds)]
    ).strip()


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"


def _toml(value: Any) -> str:
    """A value as a recipe spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) and value != round(value, 4) else repr(value)


def _summary(model: Any) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _attribute_docstrings(model: Any) -> dict[str, str]:
    """The strings that stand below the fields of a class and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.split(".")[0] != "biper":
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


# The operations of a program


_HANDLED = """Export has a handler for each of these ATen operators. An operator that is not in this list is first
decomposed into others, where torch knows how. If all of these are in the list, the operator is exported too:
`torch.logaddexp` and `nn.Softshrink` are examples. An operator that is not exported is an error that names it."""


def operators() -> str:
    """Every operation of a program: the targets that have it, what it computes, and its torch operators.

    At the end stands every torch operator that has a handler.
    """
    from biper.lowering.operators import HANDLERS
    from biper.runtime.operations import OPERATIONS
    from biper.runtime.operations.arithmetic import BINARY, UNARY
    from biper.runtime.operations.reductions import REDUCTIONS
    from biper.targets import c, onnx, openvino, packed, web

    targets = {
        "packed file": packed.OPERATIONS,
        "ONNX": onnx.OPERATIONS,
        "OpenVINO": openvino.OPERATIONS,
        "C, float32": c.OPERATIONS,
        "C, integers": c.INTEGER_OPERATIONS,
        "web page": web.OPERATIONS,
    }
    marks = {name: ["yes" if name in listed else "no" for listed in targets.values()] for name in OPERATIONS}
    parts = [_table(("operation", *targets), [(f"[`{name}`](#{name})", *row) for name, row in marks.items()])]
    functions: dict[str, Iterable[str]] = {"unary": UNARY, "binary": BINARY, "reduce": REDUCTIONS}
    for name, spec in OPERATIONS.items():
        parts += [f"## `{name}`", spec.summary]
        for what, names in (("Functions", functions.get(name, ())), ("From torch", spec.torch)):
            if names:
                parts.append(f"{what}: " + ", ".join(f"`{each}`" for each in names) + ".")
    handled = sorted(name for name in HANDLERS if not name.startswith("_"))
    parts += ["## Torch operators", _HANDLED, ", ".join(f"`{name}`" for name in handled) + "."]
    return "\n\n".join(parts)


# Files of the repository


def repository_file(name: str) -> Callable[[], str]:
    """A file at the top of the repository as a page: links into ``docs/`` stay links, others become plain names."""

    def read() -> str:
        text = (ROOT / name).read_text(encoding="utf-8")

        def link(match: re.Match[str]) -> str:
            label, target = match[1], match[2]
            if re.match(r"(https?:|#)", target):
                return match[0]
            return f"[{label}]({target.removeprefix('docs/')})" if target.startswith("docs/") else label

        return re.sub(r"(?<!!)\[([^]]+)\]\(([^)\s]+)\)", link, text)

    return read


# Markdown


def _cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row[: len(heads)]) + " |" for row in rows)])


GENERATED: dict[str, Callable[[], str]] = {
    "command line": command_line,
    "recipe keys": recipe_keys,
    "packaged recipes": packaged_recipes,
    "operators": operators,
    "CONTRIBUTING.md": repository_file("CONTRIBUTING.md"),
    "CHANGELOG.md": repository_file("CHANGELOG.md"),
}
"""What a marker may ask for, and the function that makes it."""
