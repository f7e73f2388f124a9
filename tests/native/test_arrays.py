"""Operations on arrays in the native engine against the reference: random programs, each function, hostile numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from support.programs import PADDED, operation, program_of
from support.random_programs import PARAMETERS, array_operation, array_programs
from test_engine import SETS

from biper import _native
from biper.errors import ModelFormatError
from biper.runtime.engine import Engine
from biper.runtime.operations.arithmetic import BINARY, UNARY
from biper.runtime.operations.reductions import REDUCTIONS
from biper.runtime.program import Operation, Program, write_program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

Array = NDArray[np.float32]

SPECIAL = np.array([0, -0.0, 1, -1, 1e-40, -1e-40, 1e30, -1e30, 88, -88, 104, np.inf, -np.inf, np.nan], np.float32)


def outputs_of(engine: Engine, images: Array, others: dict[str, Array] | None = None) -> dict[str, Array]:
    results = engine(images, others)
    return results if isinstance(results, dict) else {"": results}


@given(drawn=array_programs())
@settings(max_examples=200)
def test_random_programs(drawn: tuple[Program, Array, dict[str, Array]]) -> None:
    program, images, others = drawn
    values = run_reference(program, images, others)
    # Differences of nearly equal numbers make rounding errors larger: they are relative to the largest value.
    scale = max(1.0, *(float(np.abs(value).max()) for value in values.values()))
    outputs = program.outputs or {"": program.output}
    for name in SETS:
        results = outputs_of(Engine(program, name), images, others)
        threads = outputs_of(Engine(program, name, threads=3), images, others)
        assert results.keys() == outputs.keys()
        for key, value in outputs.items():
            assert results[key].shape == values[value].shape
            np.testing.assert_array_equal(results[key], threads[key])
            np.testing.assert_allclose(results[key], values[value], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("name", sorted(UNARY))
def test_functions_of_one_value(name: str) -> None:
    """On a range of ordinary numbers to float rounding; infinities, NaN and zeros become what they become in NumPy."""
    program = program_of(
        (1, 1, 4014), [array_operation("unary", ["image"], "y", function=name, **PARAMETERS.get(name, {}))], "y"
    )
    numbers = np.concatenate([np.linspace(-30, 30, 2000), np.linspace(-2, 2, 2000), SPECIAL]).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = run_reference(program, numbers.reshape(1, 1, 1, -1))["y"].ravel()
    actual = Engine(program)(numbers.reshape(1, 1, 1, -1)).ravel()
    # A function of x that subtracts numbers near 1 is as exact as 1 is.
    rounding = 1e-6 * (1 + np.abs(np.nan_to_num(numbers, posinf=1, neginf=1)))
    finite = np.isfinite(expected)
    ordinary = finite & (np.abs(numbers) < 100)
    differences = np.abs(actual[ordinary] - expected[ordinary])
    assert (differences <= (4e-6 * np.abs(expected) + rounding)[ordinary]).all()
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(actual[np.isinf(expected)], expected[np.isinf(expected)])
    np.testing.assert_allclose(actual[finite & ~ordinary], expected[finite & ~ordinary], rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("name", ["exp", "expm1", "tanh", "erf", "sigmoid"])
def test_functions_are_exact_relative_to_small_results(name: str) -> None:
    program = program_of((1, 1, 2000), [array_operation("unary", ["image"], "y", function=name)], "y")
    numbers = np.geomspace(1e-20, 3, 1000)
    numbers = np.concatenate([numbers, -numbers]).astype(np.float32).reshape(1, 1, 1, -1)
    np.testing.assert_allclose(Engine(program)(numbers), run_reference(program, numbers)["y"], rtol=6e-7)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_functions_of_two_values(name: str) -> None:
    count = len(SPECIAL)
    turned = array_operation("permute", ["image"], "c", order=[0, 2, 1])  # so that every number meets every other
    program = program_of(
        (1, count, count), [turned, array_operation("binary", ["image", "c"], "y", function=name)], "y"
    )
    images = np.repeat(SPECIAL, count).reshape(1, 1, count, count)
    with np.errstate(all="ignore"):
        expected = run_reference(program, images)["y"]
    np.testing.assert_allclose(Engine(program)(images), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 40, 70), (64, 33, 9), (1, 300, 1), (20, 1, 600)])
@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 2], [1, 2], [0, 1, 2]])
def test_reductions_of_large_arrays(shape: tuple[int, int, int], axes: list[int]) -> None:
    names = sorted(REDUCTIONS)
    operations = [array_operation("reduce", ["image"], n, function=n, axes=axes, keep=False) for n in names]
    operations.append(array_operation("normalize", ["image"], "normal", axes=axes, center=True, epsilon=1e-5))
    operations += [array_operation("softmax", ["image"], "soft", axis=axes[0], log=False)]
    program = several(shape, operations)
    images = np.random.Generator(np.random.PCG64(0)).standard_normal((1, *shape)).astype(np.float32) + 1
    expected, results = run_reference(program, images), outputs_of(Engine(program, threads=2), images)
    for name in program.outputs:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(results[name], expected[name], rtol=2e-4, atol=2e-6 * scale, err_msg=name)


@pytest.mark.parametrize("function", ["max", "min"])
def test_extremes_keep_nan(function: str) -> None:
    images = np.zeros((1, 2, 3, 9), np.float32)
    images[0, 1, 1, 4] = np.nan
    for axes in ([0], [1], [2], [1, 2], [0, 1, 2]):
        attributes = {"function": function, "axes": axes, "keep": False}
        program = program_of((2, 3, 9), [array_operation("reduce", ["image"], "y", **attributes)], "y")
        np.testing.assert_array_equal(Engine(program)(images), run_reference(program, images)["y"])


def several(shape: tuple[int, int, int], operations: list[Operation], outputs: dict[str, str] | None = None) -> Program:
    """A program whose results are all the values that it makes, or those given."""
    outputs = outputs or {str(op.real): str(op.real) for op in operations}
    numbers = (1.0,) * shape[0]
    first = next(iter(outputs.values()))
    return read_program(write_program(Program(shape, numbers, numbers, (), first, tuple(operations), outputs)))


@pytest.mark.parametrize("channels", [1, 3, 16, 20])
def test_the_image_as_result_and_as_input_of_a_convolution(channels: int) -> None:
    """The memory of an image that only convolutions read has another layout; a result must not see it."""
    random = np.random.Generator(np.random.PCG64(1))
    images = random.standard_normal((2, channels, 5, 6)).astype(np.float32)
    weight = {"weight": random.standard_normal((4, channels, 3, 3)).astype(np.float32)}
    convolution = operation("convolution", "image", weight, real="y", attributes=PADDED)
    alone = program_of((channels, 5, 6), [], "image")
    np.testing.assert_array_equal(Engine(alone)(images), images)
    np.testing.assert_array_equal(Engine(program_of((channels, 5, 6), [convolution], "image"))(images), images)
    parted = array_operation("slice", ["image"], "s", starts=[0, 1, 2], sizes=[channels, 3, 2], steps=[1, 1, 2])
    constant = array_operation("constant", [], "c", {"value": np.float32([[1, 2, 3]])})
    outputs = {"a": "y", "b": "image", "c": "s", "d": "s", "e": "c", "f": "y"}
    program = several((channels, 5, 6), [convolution, parted, constant], outputs)
    results = outputs_of(Engine(program), images)
    assert list(results) == list(outputs)
    np.testing.assert_array_equal(results["b"], images)
    np.testing.assert_array_equal(results["c"], images[:, :, 1:4, 2:5:2])
    np.testing.assert_array_equal(results["d"], results["c"])
    np.testing.assert_array_equal(results["e"], [[[1, 2, 3]]] * 2)
    np.testing.assert_array_equal(results["f"], results["a"])
    np.testing.assert_allclose(results["a"], run_reference(program, images)["y"], rtol=1e-4, atol=1e-4)


def test_rows_of_whole_blocks_are_images_without_a_copy() -> None:
    """A 1 x 1 convolution of rows (R, 32), seen as an image (32, R, 1), and gates between convolutions copy nothing."""
    random = np.random.Generator(np.random.PCG64(2))
    weight = {"weight": random.standard_normal((48, 32, 1, 1)).astype(np.float32)}
    operations = [
        array_operation("permute", ["image"], "p", order=[1, 2, 0]),
        array_operation("reshape", ["p"], "rows", shape=[12, 32]),
        array_operation("normalize", ["rows"], "n", axes=[1], center=True, epsilon=1e-5),
        array_operation("permute", ["n"], "t", order=[1, 0]),
        array_operation("reshape", ["t"], "i", shape=[32, 12, 1]),
        operation("convolution", "i", weight, real="y", attributes=PADDED | {"padding": [0] * 4}),
        array_operation("unary", ["y"], "g", function="silu"),
        operation("elementwise", "g", real="z", residual="y"),
    ]
    program = program_of((32, 3, 4), operations, "z")
    engine = Engine(program)
    assert engine.native_operations == 4  # normalize, the convolution, silu and the sum
    images = random.standard_normal((2, 32, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(engine(images), run_reference(program, images)["z"], rtol=1e-4, atol=1e-4)


def test_several_inputs_must_be_given() -> None:
    join = array_operation("binary", ["image", "level"], "y", function="add")
    ones = (1.0,)
    program = Program((1, 2, 2), ones, ones, (), "y", (join,), inputs={"level": ()})
    engine = Engine(read_program(write_program(program)))
    images = np.zeros((2, 1, 2, 2), np.float32)
    assert engine(images, {"level": np.float32([1, 2])}).sum() == 12
    with pytest.raises(ValueError, match="has an input 'level', which is missing"):
        engine(images)
    with pytest.raises(ValueError, match=r"'level' has the shape \(3,\), expected \(2,\)"):
        engine(images, {"level": np.zeros(3, np.float32)})


def test_a_value_that_the_engine_cannot_hold_is_refused() -> None:
    pad = array_operation("pad", ["image"], "y", low=[0, 0, 0], high=[0, 8191, 8191], interior=[0, 0, 0], value=0.0)
    convolution = operation(
        "convolution",
        "y",
        {"weight": np.ones((1, 1, 1, 1), np.float32)},
        real="z",
        attributes=PADDED | {"stride": [512, 512]},
    )
    program = program_of((1, 1, 1), [pad, convolution], "z")
    with pytest.raises(ModelFormatError, match=r"the engine refuses the model: .* too large"):
        Engine(program)


def hostile_calls() -> dict[str, tuple[str, list[object]]]:
    """Calls of the native engine that must be refused: the engine's only value is an image (2, 3, 4)."""

    def view(sizes: list[int], strides: list[int], offset: int = 0, value: int = 0) -> object:
        return _native.View(value, sizes, strides, offset)

    good, huge = view([4], [1]), 2**62

    def sample(index: list[int], weight: list[float]) -> list[object]:
        return [good, 0, np.array(index, np.int32), np.array(weight, np.float32), False, view([2], [1])]

    return {
        "value": ("add_function", ["abs", [], [view([4], [1], value=7)], good]),
        "offset": ("add_function", ["abs", [], [view([4], [1], 12 * 16)], good]),
        "negative": ("add_function", ["abs", [], [view([4], [1], -1)], good]),
        "negative stride": ("add_function", ["abs", [], [view([4], [-1], 8)], good]),
        "end": ("add_function", ["abs", [], [view([4], [64])], good]),
        "overflow": ("add_function", ["abs", [], [view([2, 2], [huge, huge])], good]),
        "size": ("add_function", ["abs", [], [view([huge], [0])], good]),
        "product": ("add_function", ["abs", [], [view([2**20, 2**20], [0, 0])], good]),
        "empty": ("add_function", ["abs", [], [view([0], [1])], good]),
        "rank": ("add_function", ["abs", [], [view([1] * 9, [1] * 9)], good]),
        "lengths": ("add_function", ["abs", [], [view([4], [])], good]),
        "shapes": ("add_function", ["abs", [], [view([3], [1])], good]),
        "name": ("add_function", ["abc", [], [good], good]),
        "operands": ("add_function", ["abs", [], [good, good], good]),
        "parameters": ("add_function", ["clip", [1.0] * 9, [good], good]),
        "result": ("add_function", ["abs", [], [good], view([4], [huge])]),
        "axis": ("add_softmax", [good, 1, False, good]),
        "axes": ("add_reduction", ["sum", good, [0, 0], view([1], [1])]),
        "no axes": ("add_reduction", ["sum", good, [], good]),
        "kept": ("add_reduction", ["sum", good, [0], good]),
        "normal": ("add_normalization", [good, [0], True, 1.0, view([1], [1])]),
        "epsilon": ("add_normalization", [good, [0], True, -1.0, good]),
        "index": ("add_sample", sample([0, 4], [])),
        "index below": ("add_sample", sample([0, -1], [])),
        "index length": ("add_sample", sample([0, 1, 2], [])),
        "weight": ("add_sample", sample([0, 1], [1.0])),
        "target": ("add_copies", [[good], [view([4], [1], 13)], False, 0.0, view([4], [1])]),
        "targets": ("add_copies", [[good, good], [good], False, 0.0, view([4], [1])]),
        "matrix": ("add_product", [view([2, 2], [2, 1]), view([3, 2], [2, 1]), view([2, 2], [16, 1])]),
        "rows": ("add_product", [view([2, 2], [2, 1]), view([2, 2], [2, 1]), view([2, 2], [2, 1])]),
        "columns": ("add_product", [view([2, 2], [1, 2]), view([2, 2], [2, 1]), view([2, 2], [16, 1])]),
        "image end": ("add_image", [0, 16, 2, 3, 4]),
        "image begin": ("add_image", [0, 8, 2, 1, 1]),
        "image size": ("add_image", [0, 0, 2**30, 1, 1]),
        "image area": ("add_image", [0, 0, 1, 2**30, 2**30]),
        "output": ("add_output", [view([4], [64])]),
        "input": ("add_input", [2**40]),
    }


@pytest.mark.parametrize("case", list(hostile_calls()))
def test_the_native_engine_refuses_what_would_read_or_write_elsewhere(case: str) -> None:
    method, arguments = hostile_calls()[case]
    engine = _native.Engine(2, 3, 4, "", 1)
    with pytest.raises(ValueError, match=r"\w"):
        getattr(engine, method)(*arguments)
