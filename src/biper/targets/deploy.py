"""From a packed file or a saved model to the files of another format: what `biper export --format` calls."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError, optional_packages
from biper.io.files import atomic_write
from biper.io.outputs import require_output
from biper.runtime.agreement import compare_with_reference
from biper.runtime.budget import MAX_MEMORY, MAX_WORK, UNLIMITED
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.targets.c.budget import (
    BudgetError,
    amounts,
    budget_rows,
    budget_table,
    fits,
    limit,
    needs_text,
    parse_budget,
    shortage,
)
from biper.targets.c.projects import MARKERS, project_files, require_project_folder
from biper.targets.c.sizes import STACK_BYTES
from biper.targets.c.source import CSource, c_source
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.operations import require_usable_numbers
from biper.targets.web.page import html_page

SUFFIXES = {"c": ".c", "html": ".html", "onnx": ".onnx", "openvino": ".xml", "arduino": "", "esp-idf": ""}
"""The formats, and the suffixes of their files; those without one are folders."""

PROJECT_VERSION = "1.0.0"
"""The version of a library or component that is written for the first time; its owner raises it."""

BESIDE = {"c": (".h",), "openvino": (".bin",)}
"""The suffixes of the further files of formats that have them."""


@dataclass(frozen=True)
class OpenedProgram:
    """A program to write in another format.

    Attributes:
        program: a validated program.
        title: the name to show to people.
        source: the file that it was read from.
        images: (N, C, H, W) normalized images of its data set; None where the model did not come with them.
    """

    program: Program
    title: str
    source: Path
    images: NDArray[np.float32] | None = None


def open_program(
    model: Path,
    *,
    data_dir: Path | None = None,
    float_layers: str = "float32",
    max_memory: int = MAX_MEMORY,
    max_work: int = MAX_WORK,
) -> OpenedProgram:
    """Read the program of a packed file, or pack a saved model, which needs torch.

    Args:
        model: a ``.biper`` file, or what `biper.save_model` or a run wrote.
        data_dir: where the data set of a saved model lies; see `biper.targets.packed.saved.pack_saved`.
        float_layers: how a saved model's float layers are stored; see `biper.export`.
        max_memory, max_work: what a ``.biper`` file may need; see `biper.runtime.budget`.

    Raises:
        ModelFormatError: the file is no packed model, or needs more than it may.
        ExportError: ``float_layers`` is given for a file that is packed already, or the model cannot be packed.
    """
    if model.suffix == ".biper":
        if float_layers != "float32":
            raise ExportError(f"{model} is packed already: choose its float layers when packing it")
        program = read_program(model, max_memory=max_memory, max_work=max_work)
        return OpenedProgram(program, _title(model), model)
    from biper.targets.packed.saved import pack_saved

    packed = pack_saved(model, data_dir=data_dir, float_layers=float_layers)
    program = read_program(packed.blob, max_memory=UNLIMITED, max_work=UNLIMITED)
    images = packed.images.reshape(len(packed.images), *program.input_shape)  # a signal is an image of height 1
    return OpenedProgram(program, _title(model), model, images)


def _title(model: Path) -> str:
    """The name of a file; for ``model.*``, which every run has, the name of its folder."""
    return model.resolve().parent.name if model.stem == "model" else model.stem


def deploy(
    opened: OpenedProgram,
    form: str,
    out: Path,
    *,
    integer_only: bool = False,
    flash: str | None = None,
    ram: str | None = None,
    budget: str | None = None,
    numbers: bool | None = None,
    value_bits: int = 16,
) -> tuple[dict[str, Any], str]:
    """Write a program in a format.

    Args:
        opened: what to write.
        form: a format, one of `SUFFIXES`.
        out: the file or folder to write; if a file does not end with the suffix of the format, the suffix is appended.
        integer_only, flash, ram, budget, numbers, value_bits: see `write_c`; only for ``"c"``, ``"arduino"`` and
            ``"esp-idf"``.

    Returns:
        What was written, as data for JSON, and as text for people.

    Raises:
        ExportError: the program cannot be written in this format.
        MissingDependencyError: a package that the format needs is not installed.
    """
    out = output_file(opened.source, form, out)
    if form == "html":
        return write_html(opened, out)
    if form in ("onnx", "openvino"):
        return write_graph(opened, form, out)
    limits = parse_budget(budget, flash=flash, ram=ram, integer_only=integer_only)
    return write_c(opened, out, form, integer_only=integer_only, budget=limits, numbers=numbers, value_bits=value_bits)


def output_file(source: Path, form: str, out: Path) -> Path:
    """The file that `deploy` writes, after checking that it may be written.

    Args:
        source: the model to write in another format.
        form: a format, one of `SUFFIXES`.
        out: a name with or without the suffix of the format.

    Raises:
        ExportError: the file, or the one that the format has beside it, may not be written.
    """
    suffix = SUFFIXES[form]
    if form in MARKERS:
        require_project_folder(form, out)
        return out
    if out.suffix != suffix:
        out = out.with_name(out.name + suffix)
    for path in (out, *(out.with_suffix(other) for other in BESIDE.get(form, ()))):
        require_output(path, suffix=path.suffix, inputs=[source])
    return out


def write_c(
    opened: OpenedProgram,
    out: Path,
    form: str = "c",
    *,
    integer_only: bool = False,
    budget: Mapping[str, int] | None = None,
    numbers: bool | None = None,
    value_bits: int = 16,
) -> tuple[dict[str, Any], str]:
    """Write a program as C99: ``out``, whose name names the function, and a header beside it; or a folder with both.

    Args:
        opened: what to write.
        out: a ``.c`` file, or the folder of a library or component.
        form: ``"c"``, or a form of `biper.targets.c.projects`.
        integer_only: use no floating point; see `biper.targets.c.fixed_point`.
        budget: what the device has, by the names of `biper.targets.c.budget.RESOURCES`; None for no limit.
        numbers: True if the function takes normalized numbers, False if it takes pixels and normalizes them; None for
            pixels of pictures, and numbers of signals and of vectors.
        value_bits: with ``integer_only``, the bits that values between layers are stored in, 16 or 32; see
            `biper.targets.c.fixed_point`.

    Returns:
        What was written, as data for JSON, and as text for people.

    Raises:
        BudgetError: the program does not fit into the budget, and nothing is written.
        ExportError: the errors of `c_source` and of `to_fixed_point` for the form that is asked for; or instructions
            are limited and not known.
    """
    require_integers(value_bits, integer_only)
    budget = budget or {}
    function = out.stem if form == "c" else out.name
    forms = {"float32": _smaller_if_needed(opened.program, budget, name=function, numbers=numbers)}
    refused = {}
    try:
        fixed = to_fixed_point(opened.program, opened.images, numbers=numbers, value_bits=value_bits)
        forms["integer-only"] = _smaller_if_needed(opened.program, budget, name=function, fixed=fixed)
    except ExportError as error:
        if integer_only:
            raise
        refused["integer-only"] = f"integer-only is not possible: {error}"
    name = "integer-only" if integer_only else "float32"
    chosen = forms[name]
    needs = {other: needs_text(other, made, budget) for other, made in forms.items()} | refused
    if not fits(chosen, budget):
        others = "; ".join(text for other, text in needs.items() if other != name)
        message = f"{amounts(budget, limit)} are too little: {needs[name]}; {shortage(chosen, budget)}; {others}"
        raise BudgetError(message, budget_table(chosen, budget))
    if form == "c":
        files = {out: chosen.source, out.with_suffix(".h"): chosen.header}
    else:
        project = project_files(form, function, chosen, PROJECT_VERSION)
        files = {out / path: text for path, text in project.items()}
        # A sketch or a manifest that its owner may have changed stays; the program is new.
        files = {path: text for path, text in files.items() if path.stem == function or not path.exists()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
    written = ", ".join(map(str, files)) if form == "c" else f"{out}, {len(files)} files"
    row = {
        "files": [str(path) for path in files],
        "form": name,
        "table_bytes": chosen.table_bytes,
        "code_bytes": chosen.code_bytes,
        "arena_bytes": chosen.arena_bytes,
        "memory_map": list(chosen.memory_map),
        "budget": budget_rows(chosen, budget),
        "forms": {other: {**made.needs, "fits": fits(made, budget)} for other, made in forms.items()},
    }
    lines = [
        f"{written}: {name}, {chosen.table_bytes:,} bytes of tables, about "
        f"{chosen.code_bytes:,} of code, an arena of {chosen.arena_bytes:,}, a stack of up to {STACK_BYTES:,}",
        *needs.values(),
        *([budget_table(chosen, budget)] if budget else []),
        *chosen.memory_map,
    ]
    return row, "\n".join(lines)


def require_integers(value_bits: int, integer_only: bool) -> None:
    """Raise an `ExportError` if values have other than 16 bits and are no integers."""
    if value_bits != 16 and not integer_only:
        raise ExportError(f"value_bits={value_bits} is for integers alone: add integer_only=True, or leave it out")


def write_html(opened: OpenedProgram, out: Path) -> tuple[dict[str, Any], str]:
    """Write a program as one web page; returns what was written, as data for JSON, and as text for people."""
    page = html_page(opened.program, opened.title).encode()
    atomic_write(out, page)
    return {"files": [str(out)], "bytes": len(page)}, f"{out}: {len(page):,} bytes; open it in a browser"


def write_graph(opened: OpenedProgram, form: str, out: Path) -> tuple[dict[str, Any], str]:
    """Write a program for ONNX Runtime or OpenVINO, after that engine gave the same outputs as the reference.

    Args:
        opened: what to write.
        form: ``"onnx"`` or ``"openvino"``.
        out: the file to write; OpenVINO's constants go to a ``.bin`` file beside it.

    Returns:
        What was written, as data for JSON, and as text for people.

    Raises:
        ExportError: the engine gives other outputs, the format has no operator for an operation, or a number of the
            program is NaN or infinite.
        MissingDependencyError: the engine is not installed.
    """
    require_usable_numbers(opened.program)
    with optional_packages("onnx" if form == "onnx" else "bench", f'form="{form}"'):
        graphs = importlib.import_module(f"biper.targets.{form}.files")
    files, run = graphs.build(opened.program, out)
    agreement = compare_with_reference(run, opened.program, opened.images)
    for path, content in files.items():
        atomic_write(path, content)
    total = sum(map(len, files.values()))
    row = {"files": [str(path) for path in files], "bytes": total, **asdict(agreement)}
    return row, f"{', '.join(map(str, files))}: {total:,} bytes; {agreement}"


def _smaller_if_needed(program: Program, budget: Mapping[str, int], **options: Any) -> CSource:
    """C source with tables for its binary convolutions; without them where only that fits into the memory."""
    source = c_source(program, **options)
    if fits(source, budget):
        return source
    small = c_source(program, **options, small=True)
    return small if fits(small, budget) else source
