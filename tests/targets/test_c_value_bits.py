"""C in integers alone whose values have 32 bits: nearly no sign differs from the runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.array_programs import gated_program
from support.small_programs import random_pixels, small_programs
from typer.testing import CliRunner

from biper.cli.app import app
from biper.errors import ExportError
from biper.runtime.model import Model
from biper.runtime.pretrained import load_pretrained
from biper.runtime.program import Program, write_program
from biper.runtime.reference import run_reference
from biper.targets.c.fixed_point import LARGEST
from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.to_fixed_point import to_fixed_point


def flips(program: Program, value_bits: int, count: int) -> list[float]:
    """The share of signs that differ from those of the reference, of each layer, on random pixels."""
    pixels = random_pixels(program.input_shape, count)
    images = Model(program).normalized(pixels)
    found = run_fixed(to_fixed_point(program, images, value_bits=value_bits), pixels)
    expected = run_reference(program, images)
    names = [op.bits for op in program.operations if op.bits is not None]
    return [float((found[name] != expected[name]).mean()) for name in names]


def test_values_of_32_bits_change_a_tenth_of_the_signs_of_early_layers() -> None:
    program = load_pretrained("cifar10-resnet20-rprelu").program
    short, wide = (np.array(flips(program, value_bits, 8)) for value_bits in (16, 32))
    assert 0 < short[1:6].mean() < 0.02
    assert wide[1:6].mean() < short[1:6].mean() / 10
    assert wide.mean() < short.mean() / 2


@given(st.sampled_from(sorted(small_programs())), st.integers(0, 2**32 - 1), st.booleans())
def test_no_sum_overflows_and_no_value_has_more_bits(name: str, seed: int, measured: bool) -> None:
    program = small_programs()[name]
    random = np.random.default_rng(seed)
    pixels = random.choice(np.array([0, 255], np.uint8), (2, *np.roll(program.input_shape, -1)))
    images = Model(program).normalized(random_pixels(program.input_shape, 2)) if measured else None
    fixed = to_fixed_point(program, images, value_bits=32)
    found = run_fixed(fixed, pixels)  # it asserts that every sum fits into 32 bits
    for step in fixed.operations:
        assert step.largest in LARGEST.values()
        if step.op.real is not None:
            assert -step.largest - 1 <= found[step.op.real].min() <= found[step.op.real].max() <= step.largest


def test_other_bits_and_operations_on_arrays_are_refused() -> None:
    program = gated_program()
    with pytest.raises(ExportError, match=r"value_bits=24: expected 16 or 32"):
        to_fixed_point(program, value_bits=24)
    with pytest.raises(ExportError, match=r"is an operation on arrays, whose values have 16 bits"):
        to_fixed_point(program, value_bits=32)


def test_the_command_writes_int32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.biper").write_bytes(write_program(small_programs()["shifted_16"]))
    command = ["export", "net.biper", "--format", "c", "--out", "net.c", "--value-bits", "32"]
    with pytest.raises(ExportError, match=r"value_bits=32 is for integers alone"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not Path("net.c").exists()
    assert CliRunner().invoke(app, [*command, "--integer-only"], catch_exceptions=False).exit_code == 0
    assert "int32_t output[" in Path("net.h").read_text()
    assert CliRunner().invoke(app, [*command[:-2], "--integer-only"], catch_exceptions=False).exit_code == 0
    assert "int16_t output[" in Path("net.h").read_text()
