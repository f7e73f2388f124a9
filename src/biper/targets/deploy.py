"""From a model in any form to the files of a deployment format: what `biper export --format` calls."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError, optional_packages
from biper.io.files import atomic_write
from biper.runtime.agreement import compare_outputs
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.targets.c.source import STACK_BYTES, CSource, bytes_of, c_source
from biper.targets.c.to_fixed_point import fixed_point
from biper.targets.web.page import html_page

SUFFIXES = {"c": ".c", "html": ".html", "onnx": ".onnx", "openvino": ".xml"}
"""Formats, and how their files end."""


@dataclass(frozen=True)
class Source:
    """A program to deploy, and normalized images of its data where the model came with them."""

    program: Program
    title: str
    """What people may call it."""
    images: NDArray[np.float32] | None = None


def open_source(model: Path, *, data_dir: Path | None = None, float_layers: str = "float32") -> Source:
    """The program of a packed file; or of a saved model, which is packed and compared first, and needs torch.

    Raises:
        ExportError: float layers are asked for of a file that is packed already, or the model cannot be packed.
    """
    if model.suffix == ".biper":
        if float_layers != "float32":
            raise ExportError(f"{model} is packed already: choose its float layers when packing it")
        return Source(read_program(model), _title(model))
    from biper.targets.packed.saved import pack_saved

    packed = pack_saved(model, data_dir=data_dir, float_layers=float_layers)
    return Source(read_program(packed.blob), _title(model), packed.images)


def _title(model: Path) -> str:
    """The name of a file; of those that every run has, the name of its folder."""
    return model.resolve().parent.name if model.stem == "model" else model.stem


def deploy(
    source: Source,
    form: str,
    out: Path,
    *,
    integer_only: bool = False,
    flash: str | None = None,
    ram: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Write a program in a format, to ``out``, or to that name with the format's ending if it has another.

    Returns:
        What was written as data, and in words.

    Raises:
        ExportError: the program cannot be written in this format.
    """
    if out.suffix != SUFFIXES[form]:
        out = out.with_name(out.name + SUFFIXES[form])
    if form == "html":
        return write_html(source, out)
    if form in ("onnx", "openvino"):
        return write_graph(source, form, out)
    return write_c(source, out, integer_only=integer_only, flash=flash, ram=ram)


def write_c(
    source: Source, out: Path, *, integer_only: bool = False, flash: str | None = None, ram: str | None = None
) -> tuple[dict[str, Any], str]:
    """Write a program as C99: ``out``, whose name names the function, and a header beside it.

    Args:
        source: what to write.
        out: a ``.c`` file.
        integer_only: no floating point; see `biper.targets.c.fixed_point`.
        flash, ram: the device's, such as ``"128k"``.

    Raises:
        ExportError: the chosen form is larger than that, and nothing is written; or as `c_source`.
    """
    limits = {"flash": flash, "RAM": ram}
    budget = {name: bytes_of(size) for name, size in limits.items() if size is not None}
    fixed = fixed_point(source.program, source.images)
    forms = {
        "float32": c_source(source.program, name=out.stem),
        "integer-only": c_source(source.program, name=out.stem, fixed=fixed),
    }
    name = "integer-only" if integer_only else "float32"
    chosen = forms[name]
    needs = {other: _needs(other, made, budget) for other, made in forms.items()}
    if not _fits(chosen, budget):
        had = " and ".join(f"{limits[what]} of {what}" for what in budget)
        others = "; ".join(text for other, text in needs.items() if other != name)
        raise ExportError(f"{had} are too little: {needs[name]}; {others}")
    atomic_write(out.with_suffix(".h"), chosen.header)
    atomic_write(out, chosen.source)
    row = {
        "files": [str(out), str(out.with_suffix(".h"))],
        "form": name,
        "table_bytes": chosen.table_bytes,
        "code_bytes": chosen.code_bytes,
        "arena_bytes": chosen.arena_bytes,
        "forms": {other: {**made.needs, "fits": _fits(made, budget)} for other, made in forms.items()},
    }
    lines = [
        f"{out}, {out.with_suffix('.h')}: {name}, {chosen.table_bytes:,} bytes of tables, about "
        f"{chosen.code_bytes:,} of code, an arena of {chosen.arena_bytes:,}, a stack of up to {STACK_BYTES:,}",
        *needs.values(),
    ]
    return row, "\n".join(lines)


def write_html(source: Source, out: Path) -> tuple[dict[str, Any], str]:
    """Write a program as one web page."""
    page = html_page(source.program, source.title).encode()
    atomic_write(out, page)
    return {"files": [str(out)], "bytes": len(page)}, f"{out}: {len(page):,} bytes; open it in a browser"


def write_graph(source: Source, form: str, out: Path) -> tuple[dict[str, Any], str]:
    """Write a program for ONNX Runtime or OpenVINO, once that engine gives its outputs.

    Raises:
        ExportError: it gives others.
        MissingDependencyError: the engine is not installed.
    """
    with optional_packages("onnx" if form == "onnx" else "bench", f'form="{form}"'):
        graphs = importlib.import_module(f"biper.targets.{form}.files")
    files, run = graphs.build(source.program, out)
    agreement = compare_outputs(run, source.program, source.images)
    for path, content in files.items():
        atomic_write(path, content)
    total = sum(map(len, files.values()))
    row = {"files": [str(path) for path in files], "bytes": total, **asdict(agreement)}
    return row, f"{', '.join(map(str, files))}: {total:,} bytes; {agreement}"


def _fits(source: CSource, budget: dict[str, int]) -> bool:
    return all(source.needs[name] <= size for name, size in budget.items())


def _needs(name: str, source: CSource, budget: dict[str, int]) -> str:
    text = f"{name} needs " + " and ".join(f"{size / 1024:.1f}k of {what}" for what, size in source.needs.items())
    if not budget:
        return text
    return f"{text} and {'fits' if _fits(source, budget) else 'does not fit'}"
