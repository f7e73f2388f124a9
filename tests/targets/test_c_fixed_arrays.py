"""Operations on arrays in integers alone: compiled C gives the integers of NumPy, which are near the real numbers."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.array_programs import Builder, array_programs, gated_program, in_c_order, normalized, with_results
from support.compiled import Compiled, bytes_of_single_calls, cortex_object, section_sizes
from support.small_programs import random_pixels

from biper.errors import ExportError
from biper.runtime.program import Program
from biper.runtime.reference import run_reference
from biper.targets.c.fixed_point import FixedProgram, LookupTable
from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.deploy import OpenedProgram, write_c

FLAGS = ["-O1", pytest.param("-O1 -fsanitize=undefined -fno-sanitize-recover=all", marks=pytest.mark.slow)]

REFUSED = {
    **{f"unary {name}": f"the function {name}" for name in ("ceil", "floor", "round", "sign", "softplus")},
    "unary sign of halves": "the function sign",
    "binary power (4,)": "powers of two values",
    "binary power (2, 1, 1, 4)": "powers of two values",
    **{f"reduce product {place}": "products over axes" for place in range(21, 28)},
    "softmax softmax 1": "log_softmax",
    "softmax softmax 3": "log_softmax",
}
"""The results of `array_programs` that integers alone lack, and what the error names."""

INFINITE = ("softmax softmax of some", "softmax smaller than infinity")
"""Those that read a constant which is infinite."""


def converted(program: Program, images: NDArray[np.float32] | None) -> tuple[Program, FixedProgram, dict[str, str]]:
    """The part of a program that integers alone have, that part in integers, and the errors for the other results."""
    refused = {}
    for key in program.results:
        try:
            to_fixed_point(with_results(program, [key]), images)
        except ExportError as error:
            refused[key] = str(error)
    kept = with_results(program, [key for key in program.results if key not in refused])
    return kept, to_fixed_point(kept, images), refused


def compare_program() -> Program:
    """Comparisons and choices of two thirds of an image."""
    b = Builder((3, 2, 4))
    left, right = (b.add("slice", "image", starts=[i, 0, 0], sizes=[2, 2, 4], steps=[1, 1, 1]) for i in (0, 1))
    for function in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"):
        made = b.add("binary", left, right, function=function)
        b.result(function, made)
        b.result(f"select by {function}", b.add("select", made, right, b.constant([[0.5, -9.0, 0.25, 3.0]])))
    return b.program()


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("flags", FLAGS)
def test_every_operation_is_that_of_numpy_and_near_the_real_one(flags: str, measured: bool, tmp_path: Path) -> None:
    programs = {name: program for name, program in array_programs().items() if name not in ("inputs", "compare")}
    programs["compare"] = compare_program()
    made, sources, refused = {}, {}, {}
    for name, program in programs.items():
        images = normalized(program, random_pixels(program.input_shape, 8)) if measured else None
        kept, fixed, errors = converted(program, images)
        refused |= {f"{name} {key}": text for key, text in errors.items()}
        made[name], sources[name] = (kept, fixed), c_source(kept, name=name, fixed=fixed)
    for key, text in refused.items():
        what = REFUSED.get(key, "a quotient whose divisor may be 0, where no images say how large it becomes,")
        infinite = "test: its value has values that are NaN or infinite"
        assert text.startswith(infinite if key in INFINITE else f"test: {what} cannot be written as C in"), key
    quotients = {key for key in refused if key.startswith("binary divide")}
    assert set(refused) == {*REFUSED, *INFINITE} | quotients
    assert not (measured and quotients)
    compiled = Compiled(tmp_path, sources, flags=f"{flags} -Wconversion")
    for name, (kept, fixed) in made.items():
        pixels = random_pixels(kept.input_shape, 1)
        expected, real = run_fixed(fixed, pixels), run_reference(kept, normalized(kept, pixels))
        results = {key: np.zeros(real[value].size, np.int16) for key, value in kept.results.items()}
        arrays = [np.ascontiguousarray(pixels[0]), *results.values()]
        getattr(compiled.library, f"{name}_run")(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
        for key, value in kept.results.items():
            assert np.array_equal(results[key], in_c_order(real[value][0].shape, expected[value][0])), f"{name} {key}"
            if measured:
                off = np.abs(expected[value] * 2.0 ** -fixed.exponents[value] - real[value])
                wrong = off > 0.005 * np.abs(real[value]).max() + 1e-4
                # A number that is rounded may fall on the other side of a comparison.
                assert wrong.mean() <= (0.05 if name == "compare" else 0), f"{name} {key}: {off.max()}"


@given(st.integers(-32768, 32767), st.integers(-32768, 32767), st.integers(0, 15), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_a_table_has_its_numbers_and_lies_between_them(a: int, b: int, cell: int, random: object) -> None:
    low, high = min(a, b), max(a, b)
    first = low >> cell << cell
    count = (high - first >> cell) + 2
    values = np.array([random.randint(-32768, 32767) for _ in range(count)], np.int16)  # type: ignore[attr-defined]
    table = LookupTable(values, first, low, high, cell)
    corners = first + (np.arange(count) << cell)
    inside = (corners >= low) & (corners <= high)
    assert np.array_equal(table(corners[inside]), values[inside])
    x = np.unique(np.linspace(low, high, 200).astype(np.int64))
    lines = np.interp(x, corners, values)
    assert np.abs(table(x) - lines).max() <= 0.5
    assert np.array_equal(table(np.array([-(10**6), 10**6])), table(np.array([low, high])))


def test_a_network_with_gates_is_near_the_real_one() -> None:
    program = gated_program()
    pixels = random_pixels(program.input_shape, 16)
    fixed = to_fixed_point(program, normalized(program, pixels))
    real = run_reference(program, normalized(program, pixels))[program.output]
    found = run_fixed(fixed, pixels)[program.output] * 2.0**-fixed.output_exponent
    assert np.abs(found - real).max() < 2e-3
    assert np.array_equal(found.argmax(1), real.argmax(1))


def test_a_network_with_gates_needs_no_library_and_the_memory_that_is_said(tmp_path: Path) -> None:
    program = gated_program()
    source = c_source(program, fixed=to_fixed_point(program))
    built = cortex_object(tmp_path, source)
    assert subprocess.run(["arm-none-eabi-nm", "-u", str(built)], capture_output=True, text=True).stdout.strip() == ""
    sizes = section_sizes(built)
    assert sizes["bss"] == source.arena_bytes
    spare = 8 + bytes_of_single_calls(source, integer=True)
    assert source.table_bytes - spare <= sizes["rodata"] <= source.table_bytes
    assert sizes["text"] <= source.code_bytes <= 1.5 * sizes["text"]


def test_further_inputs_are_refused() -> None:
    with pytest.raises(ExportError, match=r"the ranges of the inputs .* are not known: write C in float32"):
        to_fixed_point(array_programs()["inputs"])


def test_a_model_that_integers_alone_lack_is_written_in_float(tmp_path: Path) -> None:
    b = Builder((2, 3, 4))
    b.result("y", b.add("softmax", "image", axis=0, log=True))
    opened = OpenedProgram(b.program(), "log_softmax", tmp_path / "model.biper")
    row, text = write_c(opened, tmp_path / "model.c")
    assert list(row["forms"]) == ["float32"]
    assert "integer-only is not possible: test: log_softmax cannot be written" in text
    with pytest.raises(ExportError, match="log_softmax cannot be written as C in integers alone"):
        write_c(opened, tmp_path / "integers.c", integer_only=True)
    assert not (tmp_path / "integers.c").exists()
