"""Values that are not finite: the same results on every instruction set as in the reference, or an error on all."""

from __future__ import annotations

import numpy as np
import pytest
from support.array_programs import array_programs
from support.programs import PADDED, PLAIN, operation, program_of
from support.small_programs import affine, small_programs

from biper.errors import DataError
from biper.runtime.bfloat16 import to_bfloat16
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


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("instruction_set", SETS)
def test_a_maximum_is_nan_where_a_convolution_with_it_has_nan(instruction_set: str, threads: int) -> None:
    """The engine computes the two together, and the activation of the convolution after the maximum."""
    numbers = np.random.Generator(np.random.PCG64(5))
    weight = {"weight": numbers.standard_normal((64, 3, 2, 2), np.float32), "offset": np.ones(64, np.float32)}
    clip = {"activation": "clip", "low": -1.0, "high": 1.0}
    pooling = {"kind": "max", "kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "count_padding": False}
    operations = [
        operation("convolution", "image", weight, real="v", attributes=PLAIN | clip),
        operation("pool", "v", real="y", attributes=pooling | {"size": [40, 40]}),
    ]
    program = program_of((3, 80, 80), operations, "y")
    images = np.zeros((1, 3, 80, 80), np.float32)
    images[0, 1, 40, 30] = np.nan
    expected = run_reference(program, images)["y"]
    assert 64 <= np.isnan(expected).sum() <= 4 * 64
    np.testing.assert_array_equal(Engine(program, instruction_set, threads=threads)(images), expected)


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
@pytest.mark.parametrize("instruction_set", SETS)
def test_values_between_the_taps_are_not_read(instruction_set: str, kind: str) -> None:
    """A kernel of 1x1 with step 2, on an odd number of channels; padding moves the taps to odd rows and columns."""
    numbers = np.random.Generator(np.random.PCG64(6))
    for padding, first in (([0, 0, 0, 0], 0), ([1, 0, 1, 0], 1)):
        attributes = PLAIN | {"stride": [2, 2], "padding": padding}
        tensors = {"weight": numbers.integers(-99, 99, (7, 5, 1, 1)).astype(np.int8)} | affine(numbers, 7)
        if kind == "int8":
            attributes |= {"input_factor": 20.0, "input_zero": 99}
        else:
            tensors["weight"] = to_bfloat16(tensors["weight"].astype(np.float32))
        step = operation("convolution", "image", tensors, real="y", attributes=attributes)
        program = program_of((5, 8, 9), [step], "y")
        engine = Engine(program, instruction_set)
        images = np.full((1, 5, 8, 9), np.nan, np.float32)
        images[..., first::2, first::2] = numbers.standard_normal(images[..., first::2, first::2].shape)
        expected = run_reference(program, images)["y"]
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(engine(images), expected, rtol=1e-5, atol=1e-3)
        images[0, 4, first + 2, first + 6] = np.nan
        with pytest.raises(DataError, match="not finite"):
            engine(images)
        if kind == "int8":
            with pytest.raises(DataError, match="not finite"):
                run_reference(program, images)
