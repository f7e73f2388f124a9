"""Values that are not finite: the same results on every instruction set as in the reference, or an error on all."""

from __future__ import annotations

import numpy as np
import pytest
from support.array_programs import array_programs
from support.programs import PADDED, operation, program_of
from support.small_programs import affine, small_programs

from biper.errors import DataError
from biper.runtime.cpu import instruction_sets
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reference import run_reference

HAS = set(instruction_sets())
AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512vpopcntdq", "avx512vnni"} <= HAS
SETS = ["scalar", *(["avx2"] if {"avx2", "fma"} <= HAS else []), *(["avx512"] if AVX512 else [])]
SETS += [name for name in ("neon", "dotprod") if name in HAS]
REFUSED = ("levels", "bfloat16_1", "bfloat16_2")
"""Programs whose convolutions refuse values that they cannot round."""

PROGRAMS = {name: program for name, program in small_programs().items() if name not in REFUSED}


def spoiled(program: Program, value: float) -> np.ndarray:
    """Four images, in which every tenth number is the value."""
    numbers = np.random.Generator(np.random.PCG64(3))
    images = numbers.standard_normal((4, *program.input_shape), np.float32)
    images.reshape(-1)[numbers.permutation(images.size)[: max(1, images.size // 10)]] = value
    return images


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_operation_on_images_gives_the_same_everywhere(name: str, value: float) -> None:
    program = PROGRAMS[name]
    images = spoiled(program, value)
    expected = run_reference(program, images)[program.output]
    for instruction_set in SETS:
        for threads in (1, 3):
            actual = Engine(program, instruction_set, threads=threads)(images)
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=instruction_set)


@pytest.mark.parametrize("name", array_programs())
def test_operations_on_arrays_give_the_same_on_every_instruction_set(name: str) -> None:
    program = array_programs()[name]
    images = spoiled(program, np.nan)
    others = {key: np.ones((4, *shape), np.float32) for key, shape in program.inputs.items()}
    first, *rest = [Engine(program, instruction_set).run(images, others) for instruction_set in SETS]
    for results in rest:
        for one, other in zip(first, results, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("instruction_set", SETS)
def test_an_int8_convolution_refuses_nan_and_takes_infinity(instruction_set: str, threads: int) -> None:
    program = small_programs()["levels"]
    engine = Engine(program, instruction_set, threads=threads)
    with pytest.raises(DataError, match="not finite"):
        engine(spoiled(program, np.nan))
    with pytest.raises(DataError, match="not finite"):
        run_reference(program, spoiled(program, np.nan))
    images = spoiled(program, np.inf)
    np.testing.assert_allclose(engine(images), run_reference(program, images)[program.output], rtol=1e-6, atol=1e-5)
    good = np.ones((1, *program.input_shape), np.float32)  # the engine is as before after an error
    np.testing.assert_allclose(engine(good), run_reference(program, good)[program.output], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("instruction_set", SETS)
def test_a_convolution_that_some_sets_transform_refuses_on_all(instruction_set: str, value: float) -> None:
    """The transform of rows spreads what is not finite to neighbouring results."""
    numbers = np.random.Generator(np.random.PCG64(4))
    weight = {"weight": numbers.standard_normal((16, 16, 3, 3), np.float32)} | affine(numbers, 16)
    program = program_of((16, 8, 8), [operation("convolution", "image", weight, real="y", attributes=PADDED)], "y")
    engine = Engine(program, instruction_set)
    with pytest.raises(DataError, match="not finite"):
        engine(spoiled(program, value))
    good = numbers.standard_normal((1, 16, 8, 8), np.float32)
    np.testing.assert_allclose(engine(good), run_reference(program, good)["y"], rtol=1e-4, atol=1e-4)
