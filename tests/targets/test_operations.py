"""Each target lists its operations: the list is what it writes, and the error for another operation shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from support.array_programs import Builder, array_programs
from support.small_programs import small_programs

from biper.errors import ExportError, ModelFormatError
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program
from biper.targets import packed, web
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.web.page import html_page


def programs_by_operation() -> dict[str, Program]:
    """For each operation the shortest program that has it, and one with an operation that does not exist."""
    found: dict[str, Program] = {}
    programs = [*small_programs().values(), *array_programs().values(), *programs_of_one_operation()]
    for program in sorted(programs, key=lambda program: len(program.operations)):
        for op in program.operations:
            found.setdefault(op.operation, program)
    first, *rest = found["elementwise"].operations
    return found | {"unheard": replace(found["elementwise"], operations=(replace(first, operation="unheard"), *rest))}


def programs_of_one_operation() -> list[Program]:
    """Programs of one operation each on an array; integer-only C has them."""
    made = []
    for kind, reads, tensors, attributes in (
        ("constant", [], {"value": np.ones(2, np.float32)}, {}),
        ("reshape", ["image"], {}, {"shape": [6]}),
        ("permute", ["image"], {}, {"order": [2, 0, 1]}),
        ("slice", ["image"], {}, {"starts": [0, 1, 0], "sizes": [1, 1, 2], "steps": [1, 1, 2]}),
        ("expand", ["image"], {}, {"shape": [4, 2, 3]}),
        ("join", ["image", "image"], {}, {"axis": 0}),
        ("pad", ["image"], {}, {"low": [0, 0, 1], "high": [0, 0, 1], "interior": [0, 1, 0], "value": 0.5}),
        ("sample", ["image"], {"index": np.array([[2, 1, 0]], np.int32)}, {"axis": 2, "function": "sum"}),
        ("unary", ["image"], {}, {"function": "tanh"}),
        ("binary", ["image", "image"], {}, {"function": "multiply"}),
        ("select", ["image", "image", "image"], {}, {}),
        ("reduce", ["image"], {}, {"function": "mean", "axes": [2], "keep": True}),
        ("softmax", ["image"], {}, {"axis": 2, "log": False}),
        ("normalize", ["image"], {}, {"axes": [0], "center": True, "epsilon": 1e-5}),
        ("matmul", ["image", "image"], {}, {}),
    ):
        build = Builder((1, 3, 3) if kind == "matmul" else (1, 2, 3))
        build.result("y", build.add(kind, *reads, tensors=tensors, **attributes))
        made.append(build.program())
    return made


def write_packed(program: Program) -> object:
    return read_program(write_program(program))


def write_c_in_integers(program: Program) -> object:
    return c_source(program, fixed=to_fixed_point(program))


def write_onnx(program: Program) -> object:
    return pytest.importorskip("biper.targets.onnx.graph", exc_type=ImportError).onnx_model(program)


def write_openvino(program: Program) -> object:
    module = pytest.importorskip("biper.targets.openvino.graph", exc_type=ImportError)
    return module.openvino_model(program, 1, in_float=True)


@pytest.mark.parametrize(
    ("target", "write"),
    [
        ("packed", write_packed),
        ("c", c_source),
        ("c", write_c_in_integers),
        ("onnx", write_onnx),
        ("openvino", write_openvino),
    ],
)
def test_a_target_writes_the_operations_that_it_lists(target: str, write: Callable[[Program], object]) -> None:
    package = import_module(f"biper.targets.{target}")
    listed = package.INTEGER_OPERATIONS if write is write_c_in_integers else package.OPERATIONS
    refused = {}
    for name, program in programs_by_operation().items():
        try:
            write(program)
        except (ExportError, ModelFormatError) as error:
            refused[name] = str(error)
    assert programs_by_operation().keys() - refused.keys() == listed
    if target != "packed":
        assert re.fullmatch(
            rf"test: the operation 'unheard' cannot be written as [\w ]+, which has {', '.join(sorted(listed))}; .*",
            refused["unheard"],
        )


def test_a_web_page_refuses_an_operation_that_its_engine_lacks() -> None:
    with pytest.raises(ExportError, match="the operation 'unheard' cannot be written as a web page, which has "):
        html_page(programs_by_operation()["unheard"], "title")


def test_packed_files_have_every_operation() -> None:
    assert programs_by_operation().keys() - {"unheard"} == packed.OPERATIONS
    assert web.OPERATIONS <= packed.OPERATIONS
