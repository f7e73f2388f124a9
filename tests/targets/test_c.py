"""Generated C, compiled for this machine and run: compared with the scalar engine, and with NumPy in integers."""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.array_programs import Builder, array_programs, in_c_order, movement_program, normalized, other_inputs
from support.compiled import WARNINGS, Compiled, bytes_of_single_calls, cortex_object, require, section_sizes
from support.networks import packed_network
from support.programs import PLAIN, operation, program_of
from support.small_programs import random_pixels, small_programs

from biper.errors import ExportError
from biper.io.preprocessing import Preprocessing
from biper.runtime.engine import Engine
from biper.runtime.model import Model
from biper.runtime.program import Operation, Program, pack_weight
from biper.runtime.reference import run_reference
from biper.targets.c.budget import parse_bytes
from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.layout import strides_of
from biper.targets.c.sizes import OPERATOR_BYTES, SOFT_FLOAT_BYTES, STACK_BYTES
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point, without_flips

COMPILERS = [
    ("gcc", "-O2"),
    pytest.param("clang", "-O2", marks=pytest.mark.slow),
    pytest.param("gcc", "-O3 -march=native -ffp-contract=off", marks=pytest.mark.slow),
]


UNDEFINED = "-O1 -fsanitize=undefined -fno-sanitize-recover=all"
FLAGS = ["-O1", pytest.param(UNDEFINED, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def small() -> dict[str, Program]:
    return small_programs()


def outputs_of(program: Program) -> int:
    return math.prod(program.output_shape)


def as_c(values: NDArray) -> NDArray:
    """Results (N, C, H, W) in the order of C: [row][column][channel]."""
    return values.transpose(0, 2, 3, 1).reshape(len(values), -1)


@pytest.mark.parametrize("flags", FLAGS)
def test_every_operation_is_that_of_the_scalar_engine(flags: str, small: dict[str, Program], tmp_path: Path) -> None:
    sources = {name: c_source(program, name=name) for name, program in small.items()}
    compiled = Compiled(tmp_path, sources, flags=flags)
    for name, program in small.items():
        pixels = random_pixels(program.input_shape)
        expected = Engine(program, "scalar")(Model(program).normalized(pixels))
        actual = compiled(name, pixels, outputs_of(program), np.float32)
        assert np.array_equal(actual, as_c(expected)), name


@pytest.mark.parametrize("flags", FLAGS)
def test_every_operation_on_arrays_is_that_of_the_reference(flags: str, tmp_path: Path) -> None:
    programs = array_programs()
    sources = {name: c_source(program, name=name) for name, program in programs.items()}
    compiled = Compiled(tmp_path, sources, flags=f"{flags} -Wconversion")
    for name, program in programs.items():
        pixels, others = random_pixels(program.input_shape, 2), other_inputs(program, 2)
        expected = run_reference(program, normalized(program, pixels), others)
        for image in range(2):
            inputs = [in_c_order(program.inputs[key], array[image]) for key, array in others.items()]
            made = {key: np.zeros(expected[value][image].size, np.float32) for key, value in program.results.items()}
            arrays = [np.ascontiguousarray(pixels[image]), *inputs, *made.values()]
            getattr(compiled.library, f"{name}_run")(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
            for key, value in program.results.items():
                real = expected[value][image]
                off = np.abs(made[key] - in_c_order(real.shape, real)).max()
                assert off <= 5e-6 * np.abs(expected[value]).max(), f"{name}: {key}"


@pytest.mark.parametrize("flags", FLAGS)
def test_a_function_takes_normalized_numbers(flags: str, small: dict[str, Program], tmp_path: Path) -> None:
    fixed = {name: to_fixed_point(program, numbers=True) for name, program in small.items()}
    sources = {name: c_source(program, name=name, numbers=True) for name, program in small.items()}
    sources |= {f"{name}_fixed": c_source(small[name], name=f"{name}_fixed", fixed=fixed[name]) for name in small}
    compiled = Compiled(tmp_path, sources, flags=f"{flags} -Wconversion")
    for name, program in small.items():
        numbers = np.random.Generator(np.random.PCG64(7)).standard_normal((2, *program.input_shape), np.float32)
        in_order = numbers.transpose(0, 2, 3, 1)
        actual = compiled(name, in_order, outputs_of(program), np.float32)
        assert np.array_equal(actual, as_c(Engine(program, "scalar")(numbers))), name
        expected = run_fixed(fixed[name], numbers)[program.output]
        exponent = fixed[name].exponents["image"]
        assert exponent == 11  # 16 bits hold up to 16, twice the largest magnitude that is expected
        rounded = np.rint(in_order * 2.0**exponent).astype(np.int16)
        assert np.array_equal(compiled(f"{name}_fixed", rounded, outputs_of(program), np.int16), as_c(expected)), name


@pytest.mark.parametrize(
    ("shape", "title", "order"),
    [
        ((3, 1, 20), "Signals of 20 samples of 3 channels", "[sample][channel]"),
        ((5, 1, 1), "Vectors of 5 numbers", "in order"),
    ],
)
def test_signals_and_vectors_are_numbers_and_pictures_are_pixels(
    shape: tuple[int, int, int], title: str, order: str
) -> None:
    weight = {"weight": np.ones((2, shape[0], 1, 1), np.float32)}
    program = program_of(shape, [operation("convolution", "image", weight, real="y", attributes=PLAIN)], "y")
    header = c_source(program, name="net").header
    assert title in header
    assert f"input: normalized numbers, (number - mean) / std, {order}." in header
    assert "void net_run(const float input[NET_HEIGHT * NET_WIDTH * NET_CHANNELS],\n    float output[" in header
    assert "#define NET_STD 1.0f" in header
    assert "#define NET_INPUT_EXPONENT" not in header
    measured = np.full((1, *shape), 3.0, np.float32)
    header = c_source(program, name="net", fixed=to_fixed_point(program, measured)).header
    assert "#define NET_INPUT_EXPONENT 12" in header  # twice the largest: 6 * 2 ** 12 fits into 16 bits
    assert "void net_run(const int16_t input[" in header
    assert "const uint8_t input[" in c_source(program, name="net", numbers=False).header


def test_images_and_arrays_of_one_image_lie_in_the_same_order_and_others_in_row_major_order() -> None:
    assert strides_of((3, 4, 5)) == (1, 15, 3)
    assert strides_of((1, 3, 4, 5)) == (60, 1, 15, 3)
    assert strides_of((2, 3, 4, 5)) == (60, 20, 5, 1)
    assert strides_of((4, 5)) == (5, 1)
    assert strides_of(()) == ()


def test_the_header_names_several_inputs_and_results(tmp_path: Path) -> None:
    header = c_source(array_programs()["inputs"], name="net").header
    for line in (
        "#define NET_INPUT_STATE 5",
        "/* the input state: row-major, 5 */",
        "#define NET_INPUT_SCALE_CHANNELS 2",
        "#define NET_OUTPUT_NEXT_STATE 5",
        "/* the output image: [row][column][channel] */",
        "    float output_next_state[NET_OUTPUT_NEXT_STATE],",
        "    const float input_scale[NET_INPUT_SCALE],",
    ):
        assert line in header.splitlines(), header


def test_a_reshape_between_an_image_and_an_array_of_one_image_moves_nothing() -> None:
    build = Builder((3, 4, 5))
    array = build.add("unary", build.add("reshape", "image", shape=[1, 3, 4, 5]), function="tanh")
    build.result("y", build.add("reshape", array, shape=[3, 4, 5]))
    source = c_source(build.program())
    assert "copy" not in source.source
    assert source.arena_bytes == 4 * 60
    assert "It needs tanhf of math.h, no allocator" in source.source


@pytest.mark.parametrize(("value_bits", "measured"), [(16, False), (16, True), (32, False), (32, True)])
@pytest.mark.parametrize("flags", FLAGS)
def test_every_operation_in_integers_is_that_of_numpy_and_near_the_real_one(
    flags: str, value_bits: int, measured: bool, small: dict[str, Program], tmp_path: Path
) -> None:
    def seen(program: Program) -> NDArray[np.float32] | None:
        return Model(program).normalized(random_pixels(program.input_shape)) if measured else None

    fixed = {name: to_fixed_point(program, seen(program), value_bits=value_bits) for name, program in small.items()}
    sources = {name: c_source(small[name], name=name, fixed=fixed[name]) for name in small}
    compiled = Compiled(tmp_path, sources, flags=flags)
    for name, program in small.items():
        pixels = random_pixels(program.input_shape)
        expected = run_fixed(fixed[name], pixels)[program.output]
        actual = compiled(name, pixels, outputs_of(program), np.dtype(f"int{value_bits}").type)
        assert np.array_equal(actual, as_c(expected)), name
        real = run_reference(program, Model(program).normalized(pixels))[program.output]
        # An int8 weight is off by up to half of 1/127 of the largest: a per cent of a sum of some hundred products.
        # Integers do not round inputs to bfloat16, which is off by up to 1/512 of each.
        off = 0.02 if any(kind in name for kind in ("real", "levels", "bfloat16")) else 1e-3
        found = expected / 2.0 ** fixed[name].output_exponent
        far = np.abs(found - real)
        if name.startswith("shifted"):  # signs near their thresholds flip, and change outputs by 2 of about 10
            assert far.mean() <= 0.03 * np.abs(real).max(), name
        else:
            assert far.max() <= off * np.abs(real).max(), name


@pytest.mark.parametrize("flags", FLAGS)
def test_operations_on_arrays_in_integers_are_those_of_numpy_and_near_the_real_ones(flags: str, tmp_path: Path) -> None:
    program = movement_program()
    fixed = to_fixed_point(program)
    source = c_source(program, name="moves", fixed=fixed)
    compiled = Compiled(tmp_path, {"moves": source}, flags=flags)
    pixels = random_pixels(program.input_shape, 1)
    expected, real = run_fixed(fixed, pixels), run_reference(program, normalized(program, pixels))
    made = {name: np.zeros(real[value].size, np.int16) for name, value in program.results.items()}
    arrays = [np.ascontiguousarray(pixels[0]), *made.values()]
    compiled.library.moves_run(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))
    for name, value in program.results.items():
        assert np.array_equal(made[name], in_c_order(program.shapes[value], expected[value][0])), name
        unit = 2.0 ** -fixed.exponents[value]
        assert f"#define MOVES_OUTPUT_{name.upper()}_EXPONENT {fixed.exponents[value]}\n" in source.header
        assert np.abs(expected[value] * unit - real[value]).max() <= 0.02 * np.abs(real[value]).max(), name


@pytest.mark.parametrize(("compiler", "flags"), COMPILERS)
def test_whole_networks_sum_by_sum(compiler: str, flags: str, tmp_path: Path) -> None:
    """Given the bits that C makes, C's integer sums are those of the reference; its logits are the scalar engine's."""
    for name, dataset, bits in (("digits_cnn", "digits", "W1A1"), ("resnet20", "cifar10", "W1A1")):
        program = without_flips(packed_network(tmp_path, name, dataset, bits))
        shapes = program.shapes
        largest = max(math.prod(op.shape) for op in program.operations)
        compiled = Compiled(tmp_path, {name: c_source(program, name=name)}, compiler, flags, trace=largest)
        pixels = random_pixels(program.input_shape, 2)
        normalized = Model(program).normalized(pixels)
        expected = Engine(program, "scalar")(normalized).reshape(len(pixels), -1)
        for image, logits in zip(pixels, expected, strict=True):
            result, made, seen = compiled.traced(name, image, 10, np.float32)
            assert np.array_equal(result, logits)
            with_bits = [op for op in program.operations if op.bits is not None]
            values: dict[str, NDArray] = {}
            for op, part in zip(with_bits, seen, strict=False):
                channels, height, width = shapes[op.bits]
                of_op = part[: channels * height * width].reshape(1, height, width, channels)
                values[op.bits] = of_op.transpose(0, 3, 1, 2).astype(bool)
            binary = [op for op in program.operations if op.operation == "binary_convolution"]
            for op, part in zip(binary, made, strict=False):
                signs = values[op.inputs[0]] * np.float32(2) - 1
                sums = as_c(sums_of(op, shapes[op.inputs[0]], signs))[0]
                assert np.array_equal(part[: math.prod(op.shape)], sums), op.source


def sums_of(op: Operation, shape: tuple[int, int, int], signs: NDArray[np.float32]) -> NDArray:
    """The integer sums of a binary convolution for given signs."""
    first = operation("elementwise", "image", bits="b")
    tensors = {"weight": op.tensors["weight"]}
    second = operation("binary_convolution", "b", tensors, real="v", attributes=dict(op.attributes))
    second = replace(
        second, attributes={key: second.attributes[key] for key in ("stride", "dilation", "padding", "groups")}
    )
    return run_reference(program_of(shape, [first, second], "v"), signs)["1.sum"]


@pytest.mark.parametrize(
    ("name", "dataset", "bits", "float_layers"),
    [
        ("digits_cnn", "digits", "W1A1", "float32"),
        ("resnet20", "cifar10", "W1A32", "float32"),
        pytest.param("resnet18a", "cifar10", "W1A1", "int8", marks=pytest.mark.slow),
    ],
)
def test_networks_in_integers_are_those_of_numpy(
    name: str, dataset: str, bits: str, float_layers: str, tmp_path: Path
) -> None:
    program = packed_network(tmp_path, name, dataset, bits, float_layers)
    images = np.random.default_rng(0).standard_normal((2, *program.input_shape), np.float32)
    pixels = random_pixels(program.input_shape, 2)
    for value_bits, number in ((16, np.int16), (32, np.int32)):
        fixed = to_fixed_point(program, images, value_bits=value_bits)
        expected = run_fixed(fixed, pixels)[program.output]
        source = c_source(program, name=name, fixed=fixed)
        for compiler in ("gcc", "clang"):
            (folder := tmp_path / f"{compiler}{value_bits}").mkdir()
            compiled = Compiled(folder, {name: source}, compiler, "-O2")
            assert np.array_equal(compiled(name, pixels, 10, number), as_c(expected)), compiler


@pytest.mark.parametrize(
    ("name", "integer_only"),
    [
        ("digits_cnn", False),
        ("digits_cnn", True),
        pytest.param("resnet20", False, marks=pytest.mark.slow),
        ("resnet20", True),
    ],
)
def test_sizes_are_those_of_the_object(name: str, integer_only: bool, tmp_path: Path) -> None:
    program = packed_network(tmp_path, name, "digits" if name == "digits_cnn" else "cifar10")
    source = c_source(program, fixed=to_fixed_point(program) if integer_only else None)
    built = cortex_object(tmp_path, source)
    sizes = section_sizes(built)
    assert sizes["bss"] == source.arena_bytes
    spare = 8 + bytes_of_single_calls(source, integer=integer_only)
    assert source.table_bytes - spare <= sizes["rodata"] <= source.table_bytes
    library = 0 if integer_only else SOFT_FLOAT_BYTES
    assert sizes["text"] + library <= source.code_bytes <= 1.3 * (sizes["text"] + library)
    lines = [line.split("\t") for line in (tmp_path / "model.su").read_text().splitlines()]
    frames = {name.split(":")[-1].split(".")[0]: int(size) for name, size, _ in lines}
    operators = [frames.pop(operator) for operator in OPERATOR_BYTES if operator in frames]
    assert max(operators) + sum(frames.values()) <= STACK_BYTES  # one operator, and everything that it may call
    limits = {("digits_cnn", False): (24, 16), ("digits_cnn", True): (24, 16), ("resnet20", True): (80, 96)}
    flash, ram = limits.get((name, integer_only), (math.inf, math.inf))
    assert source.needs["flash"] <= 1000 * flash
    assert source.needs["RAM"] <= 1000 * ram
    unknown = subprocess.run(["arm-none-eabi-nm", "-u", str(built)], capture_output=True, text=True, check=True).stdout
    called = re.findall(r"U (\w+)", unknown)
    assert all(name.startswith("__aeabi_") for name in called) if not integer_only else not called


def test_integer_only_has_no_float_instruction(tmp_path: Path) -> None:
    program = packed_network(tmp_path, "digits_cnn", "digits")
    built = Compiled(tmp_path, {"model": c_source(program, fixed=to_fixed_point(program))}, flags="-O2").path
    listing = [require("objdump"), "-d", str(built)]
    code = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert "<model_run>:" in code
    floats = r"\b(?:cvt\w+|(?:add|sub|mul|div|min|max|sqrt|ucomi|comi)[sp][sd]|f(?:ld|st|add|mul|div)\w*)\b"
    assert not re.findall(floats, code)


@pytest.mark.parametrize(("text", "size"), [("128k", 131072), ("4096", 4096), ("1.5M", 1572864), ("64 KiB", 65536)])
def test_sizes_are_read_as_data_sheets_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1k", "12q", "0"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ExportError, match="is no size: expected bytes, such as 4096, 128k or 1M"):
        parse_bytes(text)


def test_names_and_labels_cannot_leave_their_places(small: dict[str, Program], tmp_path: Path) -> None:
    program = small["flat"]
    with pytest.raises(ExportError, match="the name 'a-b' cannot begin names of C"):
        c_source(program, name="a-b")
    labels = ('quote " and \\ and ??/', "line\nend", "naïve */")
    operations = (replace(program.operations[0], source="x */ int y; /*"), *program.operations[1:])
    source = c_source(replace(program, classes=labels, operations=operations), name="labels")
    text = '#include "labels.h"\nconst char *labels[] = {LABELS_CLASSES};\n'
    (tmp_path / "labels.h").write_text(source.header)
    (tmp_path / "use.c").write_text(text)
    library = tmp_path / "use.so"
    subprocess.run(
        [require("gcc"), *WARNINGS, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "use.c")], check=True
    )
    found = (ctypes.c_char_p * 3).in_dll(ctypes.CDLL(str(library)), "labels")
    assert tuple(label.decode() for label in found) == labels
    Compiled(tmp_path, {"labels": source})


def test_the_header_says_how_pictures_are_prepared(small: dict[str, Program]) -> None:
    program = next(program for program in small.values() if program.input_shape[0] in (1, 3))
    channels, height, width = program.input_shape
    plain = " ".join(c_source(program, name="net").header.split())
    assert f"resize it to {height} rows and {width} columns (bilinear interpolation" in plain
    assert "NET_RESIZE" not in plain
    way = Preprocessing((height, width), resize=99, channels="L" if channels == 1 else "BGR", white=4095)
    text = " ".join(c_source(replace(program, preprocessing=way), name="net").header.split())
    for step in ("so that 4095 becomes 255", "its shorter side has 99 pixels", f"its centre of {height} rows"):
        assert step in text
    assert "#define NET_RESIZE 99 #define NET_MEAN" in text
    mean = ", ".join(f"{value!r}f" for value in map(float, program.mean))
    assert f"#define NET_MEAN {mean} " in text


def test_what_does_not_fit_into_integers_is_refused() -> None:
    bits = {"weight": pack_weight(np.ones((1, 3, 300, 300), bool))}
    program = program_of((3, 300, 300), [operation("convolution", "image", bits, real="y", attributes=PLAIN)], "y")
    with pytest.raises(ExportError, match="test: integer sums of 270,000 products overflow 32 bits"):
        to_fixed_point(program)
    c_source(program)
