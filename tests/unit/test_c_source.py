"""Generated C: compiled for this machine and run, against the scalar engine and against NumPy in integers."""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compiled import WARNINGS, Compiled, require
from networks import packed_network
from numpy.typing import NDArray
from programs import PADDED, PLAIN, operation, program_of, random_bits

from biper.errors import ExportError
from biper.export.c_source import CODE_BYTES, SOFT_FLOAT_BYTES, STACK_BYTES, CSource, bytes_of, c_source
from biper.export.fixed_point import run_fixed
from biper.export.to_fixed_point import fixed_point, without_flips
from biper.runtime.engine import Engine
from biper.runtime.model import Model
from biper.runtime.program import Operation, Program, pack_weight
from biper.runtime.reference import run_reference

COMPILERS = [("gcc", "-O2"), ("clang", "-O2"), ("gcc", "-O3 -march=native -ffp-contract=off")]


def random_pixels(shape: tuple[int, int, int], count: int = 3) -> NDArray[np.uint8]:
    random = np.random.Generator(np.random.PCG64(5))
    return random.integers(0, 256, (count, *shape[1:], shape[0]), np.uint8)


def convolution_tensors(random: np.random.Generator, *shape: int) -> dict[str, NDArray]:
    return {
        "weight": random.standard_normal(shape).astype(np.float32),
        "offset": random.standard_normal(shape[0]).astype(np.float32),
    }


def affine(random: np.random.Generator, channels: int) -> dict[str, NDArray]:
    return {name: (random.standard_normal(channels) * 0.1).astype(np.float32) for name in ("multiplier", "offset")}


def small_programs() -> dict[str, Program]:
    """Every operation, with geometries that go beside the common ones, by name."""
    random = np.random.Generator(np.random.PCG64(7))
    made: dict[str, Program] = {}

    def add(name: str, shape: tuple[int, int, int], *operations: object) -> None:
        last = operations[-1]
        made[name] = program_of(shape, operations, last.real)

    geometries = {
        "padded": (20, 33, 1, PADDED),
        "strided": (40, 8, 1, PADDED | {"stride": [2, 3]}),
        "dilated": (64, 5, 1, PADDED | {"dilation": [2, 2], "padding": [2, 1, 0, 2]}),
        "groups_of_words": (64, 6, 2, PADDED),
        "odd_groups": (45, 9, 3, PADDED | {"stride": [2, 1], "dilation": [1, 2]}),
    }
    for name, (channels, out, groups, geometry) in geometries.items():
        attributes = geometry | {"groups": groups}
        signs = operation("elementwise", "image", bits="b", real="v")
        bits = random_bits(random, out, channels // groups, 3, 3)
        sums = operation("binary_convolution", "b", bits, real="y", attributes=attributes)
        add(f"binary_{name}", (channels, 9, 8), signs, sums)
        least = random.integers(-20, 20, out).astype(np.int32)
        thresholds = {"threshold": least, "flip": (least % 2).astype(np.uint8)}
        first = operation("binary_convolution", "b", bits | thresholds, bits="c", attributes=attributes)
        second = operation("binary_convolution", "c", random_bits(random, 7, out, 1, 1), real="y", attributes=PLAIN)
        add(f"threshold_{name}", (channels, 9, 8), signs, first, second)
        tensors = convolution_tensors(random, out, channels // groups, 3, 3)
        add(
            f"real_{name}",
            (channels, 9, 8),
            operation("convolution", "image", tensors, real="y", attributes=attributes),
        )
        signed = {"weight": pack_weight(tensors["weight"] > 0)} | affine(random, out)
        add(
            f"signed_{name}",
            (channels, 9, 8),
            operation("convolution", "image", signed, real="y", attributes=attributes),
        )
    int8 = {"weight": random.integers(-128, 128, (6, 5, 3, 3)).astype(np.int8)} | affine(random, 6)
    levels = PADDED | {"input_factor": 100.0, "input_zero": 30}
    add("levels", (5, 7, 7), operation("convolution", "image", int8, real="y", attributes=levels))
    for kind in ("max", "average"):
        for count_padding in (False, True):
            geometry = {"kind": kind, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 1], "size": [4, 6]}
            attributes = geometry | {"count_padding": count_padding}
            pool = operation("pool", "image", affine(random, 6), real="y", attributes=attributes)
            add(f"{kind}_pool_{int(count_padding)}", (6, 7, 6), pool)
    whole = {"kind": "average", "kernel": [5, 4], "stride": [5, 4], "padding": [0, 0], "size": [1, 1]}
    add("global_pool", (3, 5, 4), operation("pool", "image", real="y", attributes=whole | {"count_padding": False}))
    slope = {"slope": np.array([0.25, -0.5, 3.0], np.float32)} | affine(random, 3)
    for name, tensors, attributes in (
        ("clip", affine(random, 3), {"activation": "clip", "low": -0.02, "high": 0.05}),
        ("relu", affine(random, 3), {"activation": "relu"}),
        ("prelu", slope, {"activation": "prelu"}),
        ("offset", {"offset": np.ones(3, np.float32)}, {}),
        ("plain", {}, {}),
    ):
        first = operation("elementwise", "image", tensors, real="v", attributes=attributes)
        add(
            name,
            (3, 4, 5),
            first,
            operation("elementwise", "v", tensors, real="y", residual="v", attributes=attributes),
        )
    pad = operation("pad_channels", "image", real="p", attributes={"before": 30, "after": 4})
    scaled = operation(
        "elementwise", "p", {"multiplier": np.full(37, 9.0, np.float32), "offset": np.ones(37, np.float32)}, real="s"
    )
    join = Operation("concatenate", "test", ("s", "p"), (0, 0, 0), real="y")
    add("joined", (3, 4, 4), pad, scaled, join)
    resize = operation("resize", "image", real="y", attributes={"height": 9, "width": 3})
    add("resized", (4, 6, 7), resize)
    flat = operation("flatten", "image", real="v", bits="b")
    linear = operation("binary_convolution", "b", random_bits(random, 3, 36, 1, 1), real="y", attributes=PLAIN)
    add("flat", (4, 3, 3), flat, linear)
    return made


@pytest.fixture(scope="module")
def small() -> dict[str, Program]:
    return small_programs()


def outputs_of(program: Program) -> int:
    return math.prod(program.output_shape)


def as_c(values: NDArray) -> NDArray:
    """Results (N, C, H, W) in the order of C: [row][column][channel]."""
    return values.transpose(0, 2, 3, 1).reshape(len(values), -1)


def test_every_operation_is_that_of_the_scalar_engine(small: dict[str, Program], tmp_path: Path) -> None:
    compiled = Compiled(tmp_path, {name: c_source(program, name=name) for name, program in small.items()})
    for name, program in small.items():
        pixels = random_pixels(program.input_shape)
        expected = Engine(program, "scalar")(Model(program)._normalized(pixels))
        actual = compiled(name, pixels, outputs_of(program), np.float32)
        assert np.array_equal(actual, as_c(expected)), name


def test_every_operation_in_integers_is_that_of_numpy_and_near_the_real_one(
    small: dict[str, Program], tmp_path: Path
) -> None:
    fixed = {name: fixed_point(program) for name, program in small.items()}
    sources = {name: c_source(small[name], name=name, fixed=fixed[name]) for name in small}
    compiled = Compiled(tmp_path, sources)
    for name, program in small.items():
        pixels = random_pixels(program.input_shape)
        expected = run_fixed(fixed[name], pixels)[program.output]
        actual = compiled(name, pixels, outputs_of(program), np.int16)
        assert np.array_equal(actual, as_c(expected)), name
        real = run_reference(program, Model(program)._normalized(pixels))[program.output]
        # Weights in int8, each off by up to half of 1/127 of the largest: a per cent of a sum of some hundred products.
        off = 0.02 if any(kind in name for kind in ("real", "levels")) else 1e-3
        found = expected / 2.0 ** fixed[name].output_exponent
        assert np.abs(found - real).max() <= off * np.abs(real).max(), name


@pytest.mark.parametrize(("compiler", "flags"), COMPILERS)
def test_whole_networks_sum_by_sum(compiler: str, flags: str, tmp_path: Path) -> None:
    """Given the bits that C makes, its integer sums are those of the reference; logits are the scalar engine's."""
    for name, dataset, bits in (("digits_cnn", "digits", "W1A1"), ("resnet20", "cifar10", "W1A1")):
        program = without_flips(packed_network(tmp_path, name, dataset, bits))
        binary = [index for index, op in enumerate(program.operations) if op.operation == "binary_convolution"]
        shapes = program.shapes
        sums = sum(math.prod(program.operations[index].shape) for index in binary)
        count = sum(math.prod(op.shape) for op in program.operations if op.bits is not None)
        compiled = Compiled(tmp_path, {name: c_source(program, name=name)}, compiler, flags, trace=max(sums, count))
        pixels = random_pixels(program.input_shape, 2)
        normalized = Model(program)._normalized(pixels)
        expected = Engine(program, "scalar")(normalized).reshape(len(pixels), -1)
        for image, logits in zip(pixels, expected, strict=True):
            result, made, seen = compiled.traced(name, image, 10, np.float32, sums, count)
            assert np.array_equal(result, logits)
            values: dict[str, NDArray] = {}
            for op in program.operations:
                if op.bits is not None:
                    channels, height, width = shapes[op.bits]
                    part, seen = np.split(seen, [channels * height * width])
                    values[op.bits] = part.reshape(1, height, width, channels).transpose(0, 3, 1, 2).astype(bool)
            for index in binary:
                op = program.operations[index]
                signs = values[op.inputs[0]] * np.float32(2) - 1
                part, made = np.split(made, [math.prod(op.shape)])
                assert np.array_equal(part, as_c(sums_of(op, shapes[op.inputs[0]], signs))[0]), op.source


def sums_of(op: Operation, shape: tuple[int, int, int], signs: NDArray[np.float32]) -> NDArray:
    """The integer sums of a binary convolution for given signs."""
    first = operation("elementwise", "image", bits="b")
    tensors = {"weight": op.tensors["weight"]}
    second = operation("binary_convolution", "b", tensors, real="v", attributes=dict(op.attributes))
    second = replace(
        second, attributes={key: second.attributes[key] for key in ("stride", "dilation", "padding", "groups")}
    )
    return run_reference(program_of(shape, [first, second], "v"), signs)["1.sum"]


def test_networks_in_integers_are_those_of_numpy(tmp_path: Path) -> None:
    for name, dataset, bits, float_layers in (
        ("digits_cnn", "digits", "W1A1", "float32"),
        ("resnet20", "cifar10", "W1A32", "float32"),
        ("resnet18a", "cifar10", "W1A1", "int8"),
    ):
        program = packed_network(tmp_path, name, dataset, bits, float_layers)
        fixed = fixed_point(program, np.random.default_rng(0).standard_normal((2, *program.input_shape), np.float32))
        pixels = random_pixels(program.input_shape, 2)
        compiled = Compiled(tmp_path, {name: c_source(program, name=name, fixed=fixed)}, flags="-O2")
        expected = run_fixed(fixed, pixels)[program.output]
        assert np.array_equal(compiled(name, pixels, 10, np.int16), as_c(expected)), name


def cortex_object(folder: Path, source: CSource) -> Path:
    compiler = require("arm-none-eabi-gcc")
    (folder / "model.h").write_text(source.header)
    (folder / "model.c").write_text(source.source)
    flags = ["-mcpu=cortex-m3", "-mthumb", "-Os", "-fstack-usage", "-c", "-o", "model.o", "model.c"]
    subprocess.run([compiler, *WARNINGS, *flags], cwd=folder, check=True)
    return folder / "model.o"


@pytest.mark.parametrize("name", ["digits_cnn", "resnet20"])
@pytest.mark.parametrize("integer_only", [False, True])
def test_sizes_are_those_of_the_object(name: str, integer_only: bool, tmp_path: Path) -> None:
    program = packed_network(tmp_path, name, "digits" if name == "digits_cnn" else "cifar10")
    source = c_source(program, fixed=fixed_point(program) if integer_only else None)
    built = cortex_object(tmp_path, source)
    listed = subprocess.run(["arm-none-eabi-size", "-A", str(built)], capture_output=True, text=True, check=True).stdout
    sizes = {key: int(value) for key, value in re.findall(r"^\.(\w+) +(\d+)", listed, re.MULTILINE)}
    assert sizes["bss"] == source.arena_bytes
    assert source.table_bytes - 8 <= sizes["rodata"] <= source.table_bytes
    library = 0 if integer_only else SOFT_FLOAT_BYTES
    assert sizes["text"] + library <= source.code_bytes <= 1.3 * (sizes["text"] + library)
    lines = [line.split("\t") for line in (tmp_path / "model.su").read_text().splitlines()]
    frames = {name.split(":")[-1]: int(size) for name, size, _ in lines}
    kernels = [frames.pop(kernel) for kernel in CODE_BYTES if kernel in frames]
    assert max(kernels) + sum(frames.values()) <= STACK_BYTES  # a call of a kernel, and of everything that it may call
    limits = {("digits_cnn", False): (24, 16), ("digits_cnn", True): (24, 16), ("resnet20", True): (80, 96)}
    flash, ram = limits.get((name, integer_only), (math.inf, math.inf))
    assert source.needs["flash"] <= 1000 * flash
    assert source.needs["RAM"] <= 1000 * ram
    unknown = subprocess.run(["arm-none-eabi-nm", "-u", str(built)], capture_output=True, text=True, check=True).stdout
    called = re.findall(r"U (\w+)", unknown)
    assert all(name.startswith("__aeabi_") for name in called) if not integer_only else not called


def test_integer_only_has_no_float_instruction(tmp_path: Path) -> None:
    program = packed_network(tmp_path, "resnet20", "cifar10")
    built = Compiled(tmp_path, {"model": c_source(program, fixed=fixed_point(program))}, flags="-O2").path
    listing = [require("objdump"), "-d", str(built)]
    code = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert "<model_run>:" in code
    floats = r"\b(?:cvt\w+|(?:add|sub|mul|div|min|max|sqrt|ucomi|comi)[sp][sd]|f(?:ld|st|add|mul|div)\w*)\b"
    assert not re.findall(floats, code)


@pytest.mark.parametrize(("text", "size"), [("128k", 131072), ("4096", 4096), ("1.5M", 1572864), ("64 KiB", 65536)])
def test_sizes_are_read_as_data_sheets_have_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1k", "12q", "0"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ExportError, match="is no size: expected bytes, such as 4096, 128k or 1M"):
        bytes_of(text)


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


def test_what_does_not_fit_into_integers_is_refused() -> None:
    bits = {"weight": pack_weight(np.ones((1, 3, 300, 300), bool))}
    program = program_of((3, 300, 300), [operation("convolution", "image", bits, real="y", attributes=PLAIN)], "y")
    with pytest.raises(ExportError, match="test: integer sums of 270,000 products overflow 32 bits"):
        fixed_point(program)
    c_source(program)
