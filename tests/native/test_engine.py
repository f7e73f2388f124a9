"""The engine against the plain reference: every kernel, every instruction set that this processor has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.programs import PADDED, PLAIN, operation, program_of, random_bits

from biper.errors import DataError, ModelFormatError
from biper.runtime.bfloat16 import to_bfloat16
from biper.runtime.cpu import instruction_sets
from biper.runtime.engine import Engine
from biper.runtime.program import Program, pack_weight
from biper.runtime.reference import run_reference

HAS = set(instruction_sets())
AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512vpopcntdq", "avx512vnni"} <= HAS
SETS = ["scalar", *(["avx2"] if {"avx2", "fma"} <= HAS else []), *(["avx512"] if AVX512 else [])]
SETS += [name for name in ("neon", "dotprod") if name in HAS]


def check(program: Program, images: NDArray[np.float32], *, exact: bool, scale: float = 1.0) -> None:
    """All instruction sets against the reference: equal, or to the rounding of sums whose terms add up to ``scale``."""
    expected = run_reference(program, images)[program.output]
    for name in SETS:
        actual = Engine(program, name)(images)
        # More threads split rows or images; every result is the same bits.
        assert np.array_equal(Engine(program, name, threads=3)(images), actual), name
        if exact:
            assert np.array_equal(actual, expected), name
        else:
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6 * scale, err_msg=name)


def largest_sum(images: NDArray[np.float32], tensors: dict[str, NDArray]) -> float:
    """The most that the absolute terms of one result can add up to: what its rounding errors are relative to."""
    weight = tensors["weight"]
    terms = (
        8 * weight[0].size if weight.dtype == np.uint8 else float(np.abs(weight).reshape(len(weight), -1).sum(1).max())
    )
    factor = max(
        (float(np.abs(tensors[name]).max()) for name in ("multiplier", "slope") if name in tensors), default=1.0
    )
    return float(np.abs(images).max()) * terms * max(factor, 1.0)


@st.composite
def geometries(draw: st.DrawFn, most: int) -> tuple[dict[str, object], tuple[int, ...], tuple[int, int, int]]:
    """Attributes of a convolution, the shape of its weight (O, I / groups, kh, kw), and its input's shape."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 7, most // 4]))
    inside, outside = draw(st.integers(1, most // groups)), draw(st.integers(1, max(most // groups // 2, 1)))
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    stride, dilation = (draw(st.tuples(st.integers(1, 3), st.integers(1, high))) for high in (3, 2))
    padding = [draw(st.integers(0, size // 2 + 1)) for size in (kernel[0], kernel[0], kernel[1], kernel[1])]
    least = [dilation[i] * (kernel[i] - 1) + 1 - padding[2 * i] - padding[2 * i + 1] for i in (0, 1)]
    height, width = (max(low, 1) + draw(st.integers(0, 9)) for low in least)
    attributes = {"stride": list(stride), "dilation": list(dilation), "padding": padding, "groups": groups}
    return attributes, (outside * groups, inside, *kernel), (inside * groups, height, width)


def random_of(draw: st.DrawFn) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))


def activations(
    draw: st.DrawFn, random: np.random.Generator, channels: int
) -> tuple[dict[str, object], dict[str, NDArray]]:
    """The attributes and tensors of an activation, or none."""
    activation = draw(st.sampled_from([None, "clip", "relu", "prelu"]))
    attributes: dict[str, object] = {"activation": activation} if activation else {}
    if activation == "clip":
        attributes |= {"low": -0.5, "high": 1.5}
    slopes = {"slope": signed(draw, random, channels)} if activation == "prelu" else {}
    return attributes, slopes


def signed(draw: st.DrawFn, random: np.random.Generator, channels: int) -> NDArray[np.float32]:
    """A number for each channel: none is negative, or some are."""
    numbers = random.standard_normal(channels).astype(np.float32)
    return np.abs(numbers) if draw(st.booleans()) else numbers


@given(data=st.data())
@settings(max_examples=300)
def test_binary_sums_are_the_same_integers(data: st.DataObject) -> None:
    attributes, weight_shape, shape = data.draw(geometries(300))
    random = random_of(data.draw)
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation("binary_convolution", "b0", random_bits(random, *weight_shape), real="v1", attributes=attributes),
    ]
    images = random.standard_normal((2, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v1"), images, exact=True)


@given(data=st.data())
@settings(max_examples=100)
def test_thresholds_emit_the_same_bits(data: st.DataObject) -> None:
    """Bits of a first binary convolution, seen through the sums of a second one."""
    attributes, weight_shape, shape = data.draw(geometries(80))
    random = random_of(data.draw)
    channels = weight_shape[0]
    largest = int(np.prod(weight_shape[1:]))
    first = random_bits(random, *weight_shape) | {
        "threshold": random.integers(-largest - 1, largest + 2, channels).astype(np.int32),
        "flip": random.integers(0, 2, channels).astype(np.uint8),
    }
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation("binary_convolution", "b0", first, bits="b1", attributes=attributes),
        operation("binary_convolution", "b1", random_bits(random, 5, channels, 1, 1), real="v2", attributes=PLAIN),
    ]
    images = random.standard_normal((1, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v2"), images, exact=True)


@given(data=st.data())
@settings(max_examples=100)
def test_real_convolutions_with_every_epilogue(data: st.DataObject) -> None:
    attributes, weight_shape, shape = data.draw(geometries(40))
    random = random_of(data.draw)
    channels = weight_shape[0]
    tensors = {"weight": random.standard_normal(weight_shape).astype(np.float32)}
    if data.draw(st.booleans()):
        tensors["weight"] = pack_weight(tensors["weight"] > 0)
        tensors["multiplier"] = random.standard_normal(channels).astype(np.float32)
        tensors["offset"] = random.standard_normal(channels).astype(np.float32)
    elif data.draw(st.booleans()):
        tensors["offset"] = random.standard_normal(channels).astype(np.float32)
    rest, slopes = activations(data.draw, random, channels)
    operations = [
        operation("convolution", "image", tensors | slopes, real="v0", attributes=attributes | rest),
        operation("elementwise", "v0", real="v1", residual="v0"),
    ]
    images = random.standard_normal((2, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v1"), images, exact=False, scale=largest_sum(images, tensors | slopes))


@given(data=st.data())
@settings(max_examples=200)
def test_bfloat16_convolutions_round_their_inputs(data: st.DataObject) -> None:
    """Sums of float32, of weights and inputs that are both rounded to bfloat16."""
    attributes, weight_shape, shape = data.draw(st.one_of(geometries(60), ways(REAL_WAYS)))
    random = random_of(data.draw)
    floats = random.standard_normal(weight_shape).astype(np.float32)
    reads, operations = "image", []
    if data.draw(st.booleans()):  # not the input of the network, which may be stored without gaps
        reads, operations = "v", [operation("elementwise", "image", real="v")]
    weight = {"weight": to_bfloat16(floats)}
    operations.append(operation("convolution", reads, weight, real="v0", attributes=attributes))
    images = random.standard_normal((2, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v0"), images, exact=False, scale=largest_sum(images, {"weight": floats}))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4e38])
def test_values_that_bfloat16_does_not_have_are_refused(name: str, value: float) -> None:
    weight = {"weight": to_bfloat16(np.ones((3, 5, 1, 1), np.float32))}
    program = program_of((5, 4, 4), [operation("convolution", "image", weight, real="v0", attributes=PLAIN)], "v0")
    images = np.zeros((1, 5, 4, 4), np.float32)
    images[0, 4, 3, 3] = value
    with pytest.raises(DataError, match="not finite"):
        Engine(program, name)(images)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_stay_in_their_group(value: float) -> None:
    """A block of several groups multiplies the inputs of all of them, by weights that are 0 for other groups."""
    weight = {"weight": np.ones((8, 1, 3, 3), np.float32)}
    convolution = operation("convolution", "image", weight, real="v0", attributes=PADDED | {"groups": 4})
    program = program_of((4, 5, 5), [convolution], "v0")
    images = np.ones((2, 4, 5, 5), np.float32)
    images[1, 2, 2, 2] = value
    expected = run_reference(program, images)["v0"]
    for name in SETS:
        assert np.array_equal(Engine(program, name)(images), expected, equal_nan=True)


@given(data=st.data())
@settings(max_examples=200)
def test_int8_convolutions_are_the_same_integers(data: st.DataObject) -> None:
    """Before and after an affine: one product and one sum of float32, rounded alike everywhere."""
    attributes, weight_shape, shape = data.draw(geometries(60).filter(lambda drawn: drawn[0]["groups"] == 1))
    random = random_of(data.draw)
    channels = weight_shape[0]
    tensors = {
        "weight": random.integers(-128, 128, weight_shape).astype(np.int8),
        "multiplier": random.standard_normal(channels).astype(np.float32),
        "offset": random.standard_normal(channels).astype(np.float32),
    }
    attributes |= {
        "input_factor": float(np.float32(random.uniform(1, 100))),
        "input_zero": int(random.integers(0, 256)),
    }
    reads, operations = "image", []
    if data.draw(st.booleans()):  # not the input of the network, which may be stored without gaps
        reads, operations = "v", [operation("elementwise", "image", real="v")]
    operations.append(operation("convolution", reads, tensors, real="v0", attributes=attributes))
    images = random.standard_normal((1, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v0"), images, exact=True)


# Shapes for which the kernels have a way of their own: groups, channels in and out of a group, kernel, stride.
BINARY_WAYS = {
    "two taps a word": (1, (1, 16), (1, 40), ((1, 4), (2, 7)), (1, 3)),
    "three rows at once": (1, (17, 140), (1, 70), ((3, 3), (1, 4)), (1, 2)),
    "groups of half a word": ((2, 5), (16, 16), (16, 32), ((1, 4), (1, 4)), (1, 2)),
    "groups of words": ((2, 3), (32, 64), (16, 32), ((1, 3), (1, 3)), (1, 2)),
}
REAL_WAYS = {
    "rows of step 1": (1, (12, 16), (16, 80), ((2, 5), (3, 4)), (1, 1)),
    "rows of step 2": (1, (3, 8), (16, 80), ((5, 8), (5, 8)), (2, 2)),
    "rows of blocks": (1, (32, 32), (16, 40), ((1, 3), (3, 4)), (1, 1)),
    "groups of blocks": ((2, 3), (1, 20), (16, 32), ((1, 3), (1, 3)), (1, 2)),
    "depthwise": ((16, 70), (1, 1), (1, 1), ((1, 5), (1, 5)), (1, 2)),
}


@st.composite
def ways(draw: st.DrawFn, kinds: dict[str, tuple]) -> tuple[dict[str, object], tuple[int, ...], tuple[int, int, int]]:
    groups, inside, outside, kernels, steps = kinds[draw(st.sampled_from(sorted(kinds)))]
    groups = groups if isinstance(groups, int) else draw(st.integers(*groups))
    inside = 16 * draw(st.integers(1, 4)) if inside == (32, 32) else draw(st.integers(*inside))
    outside = (
        16 * draw(st.integers(1, outside[1] // 16)) if groups > 1 and outside[1] > 1 else draw(st.integers(*outside))
    )
    if groups > 1 and inside > 16:
        inside = 32 * draw(st.integers(1, 2))
    kernel = [draw(st.integers(*size)) for size in kernels]
    step = draw(st.integers(*steps))
    padding = [draw(st.integers(0, size // 2 + 1)) for size in (kernel[0], kernel[0], kernel[1], kernel[1])]
    height, width = (max(size - 2, 1) + draw(st.integers(2, 21)) for size in kernel)
    attributes = {"stride": [draw(st.integers(1, 2)), step], "dilation": [draw(st.integers(1, 2)), 1]}
    height += kernel[0]  # room for the dilation
    return (
        attributes | {"padding": padding, "groups": groups},
        (outside * groups, inside, *kernel),
        (inside * groups, height, width),
    )


@given(data=st.data())
@settings(max_examples=150)
def test_every_way_of_a_binary_convolution(data: st.DataObject) -> None:
    attributes, weight_shape, shape = data.draw(ways(BINARY_WAYS))
    random = random_of(data.draw)
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation("binary_convolution", "b0", random_bits(random, *weight_shape), real="v1", attributes=attributes),
    ]
    images = random.standard_normal((1, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v1"), images, exact=True)


@given(data=st.data())
@settings(max_examples=100)
def test_every_way_of_a_real_convolution(data: st.DataObject) -> None:
    attributes, weight_shape, shape = data.draw(ways(REAL_WAYS))
    random = random_of(data.draw)
    tensors = {"weight": random.standard_normal(weight_shape).astype(np.float32)}
    operations = [operation("convolution", "image", tensors, real="v0", attributes=attributes)]
    if data.draw(st.booleans()):  # not the input of the network, which may be stored without gaps
        operations.insert(0, operation("elementwise", "image", real="v"))
        operations[1] = operation("convolution", "v", tensors, real="v0", attributes=attributes)
    images = random.standard_normal((1, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v0"), images, exact=False, scale=largest_sum(images, tensors))


def test_a_depthwise_convolution_of_many_channels() -> None:
    """As many groups as channels; networks of others have thousands."""
    random = np.random.Generator(np.random.PCG64(0))
    tensors = {"weight": random.standard_normal((1100, 1, 3, 3)).astype(np.float32)}
    attributes = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1100}
    images = random.standard_normal((1, 1100, 4, 4)).astype(np.float32)
    operations = [operation("convolution", "image", tensors, real="v0", attributes=attributes)]
    check(program_of((1100, 4, 4), operations, "v0"), images, exact=False, scale=largest_sum(images, tensors))


@given(data=st.data())
@settings(max_examples=100)
def test_pooling(data: st.DataObject) -> None:
    random = random_of(data.draw)
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = [data.draw(st.integers(0, size // 2)) for size in kernel]
    shape = (
        data.draw(st.integers(1, 40)),
        *(size + data.draw(st.integers(0, most)) for size, most in zip(kernel, (6, 16), strict=True)),
    )
    size = [data.draw(st.integers(1, (shape[1 + i] + padding[i] - 1) // stride[i] + 1)) for i in (0, 1)]
    attributes = {
        "kind": data.draw(st.sampled_from(["max", "average"])),
        "kernel": list(kernel),
        "stride": list(stride),
        "padding": padding,
        "size": size,
        "count_padding": data.draw(st.booleans()),
    }
    operations = [operation("pool", "image", real="v0", attributes=attributes)]
    images = random.standard_normal((2, *shape)).astype(np.float32)
    check(program_of(shape, operations, "v0"), images, exact=False)


@given(data=st.data())
@settings(max_examples=40)
def test_a_pool_is_computed_with_the_convolution_before_it(data: st.DataObject) -> None:
    """The result of the convolution is so large that only some rows of it are in memory, of each thread its own."""
    random = random_of(data.draw)
    height, width = data.draw(st.integers(62, 90)), data.draw(st.integers(60, 70))
    kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    padding = data.draw(st.integers(0, kernel // 2))
    size = [(edge + 2 * padding - kernel) // stride + 1 - data.draw(st.integers(0, 1)) for edge in (height, width)]
    pooling = {
        "kind": data.draw(st.sampled_from(["max", "average"])),
        "kernel": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [padding, padding],
        "size": size,
        "count_padding": data.draw(st.booleans()),
    }
    attributes, slopes = activations(data.draw, random, 64)
    epilogue = slopes | {"offset": random.standard_normal(64).astype(np.float32)}
    kind = data.draw(st.sampled_from(["real", "bits", "levels"]))
    reads, first = "image", []
    if kind == "real":
        tensors = {"weight": random.standard_normal((64, 3, 3, 3)).astype(np.float32)}
    else:
        epilogue["multiplier"] = signed(data.draw, random, 64)
    if kind == "bits":
        tensors = random_bits(random, 64, 3, 3, 3)
        reads, first = "b0", [operation("elementwise", "image", bits="b0")]
    if kind == "levels":
        tensors = {"weight": random.integers(-128, 128, (64, 3, 3, 3)).astype(np.int8)}
        attributes |= {"input_factor": 30.0, "input_zero": 100}
    tensors |= epilogue
    name = "binary_convolution" if kind == "bits" else "convolution"
    convolution = operation(name, reads, tensors, real="v0", attributes=PADDED | attributes)
    emitted = {"real": "v1"} if data.draw(st.booleans()) else {"real": "v1", "bits": "b1"}
    operations = [*first, convolution, operation("pool", "v0", attributes=pooling, **emitted)]
    images = random.standard_normal((1, 3, height, width)).astype(np.float32)
    program = program_of((3, height, width), operations, "v1")
    scale = largest_sum(images, tensors) * (30.0 if kind == "levels" else 1.0)
    check(program, images, exact=kind != "real" and pooling["kind"] == "max", scale=scale)
    assert Engine(program, SETS[-1]).arena_bytes < 4 * 64 * (height * width + size[0] * size[1])


@given(data=st.data())
@settings(max_examples=40)
def test_a_stem_is_transformed_along_rows_and_columns(data: st.DataObject) -> None:
    """Square kernels of 5 to 8 with step 2 on few channels, alone and with the pool of a ResNet behind."""
    random = random_of(data.draw)
    kernel, channels, out = data.draw(st.integers(5, 8)), data.draw(st.integers(3, 4)), data.draw(st.integers(16, 70))
    height, width = data.draw(st.integers(9, 90)), data.draw(st.integers(9, 90))
    padding = [data.draw(st.integers(0, kernel // 2)) for _ in range(4)]
    attributes = {"stride": [2, 2], "dilation": [1, 1], "padding": padding, "groups": 1}
    tensors = {"weight": random.standard_normal((out, channels, kernel, kernel)).astype(np.float32)}
    operations = [operation("convolution", "image", tensors, real="v0", attributes=attributes)]
    output = "v0"
    if data.draw(st.booleans()):
        size = [(edge + sum(padding[2 * i : 2 * i + 2]) - kernel) // 2 + 1 for i, edge in enumerate((height, width))]
        pooling = {"kind": "max", "kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "count_padding": False}
        pooling["size"] = [(edge - 1) // 2 + 1 for edge in size]
        operations.append(operation("pool", "v0", attributes=pooling, real="v1"))
        output = "v1"
    images = random.standard_normal((1, channels, height, width)).astype(np.float32)
    program = program_of((channels, height, width), operations, output)
    check(program, images, exact=False, scale=largest_sum(images, tensors))


@given(data=st.data())
@settings(max_examples=150)
def test_signs_of_a_value_that_is_kept_are_made_with_it(data: st.DataObject) -> None:
    """The residual networks of ReActNet: a real value, and the signs of its sum with an offset, both read later."""
    random = random_of(data.draw)
    channels = data.draw(st.integers(1, 70))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    kind = data.draw(st.sampled_from(["binary_convolution", "elementwise", "pool"]))
    attributes, tensors = activations(data.draw, random, channels)
    operations = [operation("elementwise", "image", bits="b0")]
    if kind == "pool":
        attributes = {"kind": "max", "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "size": [height, width]}
        operations = [operation(kind, "image", real="v0", attributes=attributes | {"count_padding": False})]
    elif kind == "elementwise":
        operations = [operation(kind, "image", tensors, real="v0", attributes=attributes)]
    else:
        tensors |= random_bits(random, channels, channels, 3, 3)
        operations.append(operation(kind, "b0", tensors, real="v0", attributes=PADDED | attributes))
    signs = {"offset": random.integers(-3, 4, channels).astype(np.float32)}  # so that some sums are 0
    factors = data.draw(st.sampled_from([None, np.ones(channels), random.choice([-2.0, 0.5, 3.0], channels)]))
    if factors is not None:
        signs["multiplier"] = factors.astype(np.float32)
    weight = random_bits(random, channels, channels, 1, 1)
    operations += [
        operation("elementwise", "v0", signs, bits="b1"),
        operation("binary_convolution", "b1", weight, residual="v0", real="v1", attributes=PLAIN),
    ]
    images = random.integers(-4, 5, (2, channels, height, width)).astype(np.float32)
    program = program_of((channels, height, width), operations, "v1")
    check(program, images, exact=True)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_signs_behind_a_pool_that_is_computed_with_a_convolution(kind: str) -> None:
    random = np.random.Generator(np.random.PCG64(0))
    pooling = {"kind": kind, "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "size": [40, 30]}
    prelu = {"slope": np.abs(random.standard_normal(64)).astype(np.float32)}
    signs = {"offset": random.integers(-3, 4, 64).astype(np.float32)}
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation(
            "binary_convolution",
            "b0",
            prelu | random_bits(random, 64, 5, 3, 3),
            real="v0",
            attributes=PADDED | {"activation": "prelu"},
        ),
        operation("pool", "v0", attributes=pooling | {"count_padding": False}, real="v1"),
        operation("elementwise", "v1", signs, bits="b1"),
        operation(
            "binary_convolution", "b1", random_bits(random, 64, 64, 1, 1), residual="v1", real="v2", attributes=PLAIN
        ),
    ]
    images = random.integers(-4, 5, (2, 5, 80, 60)).astype(np.float32)
    program = program_of((5, 80, 60), operations, "v2")
    check(program, images, exact=True)
    assert Engine(program, SETS[-1]).arena_bytes < 4 * 64 * (80 * 60 + 2 * 40 * 30)


def test_signs_that_another_operation_makes_take_no_time_of_their_own() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation("binary_convolution", "b0", random_bits(random, 64, 64, 3, 3), real="v0", attributes=PADDED),
        operation("elementwise", "v0", {"offset": random.standard_normal(64).astype(np.float32)}, bits="b1"),
        operation("binary_convolution", "b1", random_bits(random, 64, 64, 3, 3), real="v1", attributes=PADDED),
    ]
    times = Engine(program_of((64, 40, 40), operations, "v1")).profile(9)
    assert times[2] < 0.01 * times[1]


def small_program() -> Program:
    random = np.random.Generator(np.random.PCG64(0))
    operations = [
        operation("elementwise", "image", bits="b0"),
        operation("binary_convolution", "b0", random_bits(random, 40, 20, 3, 3), real="v1", attributes=PADDED),
    ]
    return program_of((20, 16, 16), operations, "v1")


def test_many_threads_at_once_get_their_own_results() -> None:
    program = small_program()
    engine = Engine(program)
    random = np.random.Generator(np.random.PCG64(1))
    batches = [random.standard_normal((3, 20, 16, 16)).astype(np.float32) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(engine, batches))
    for images, result in zip(batches, results, strict=True):
        assert np.array_equal(result, run_reference(program, images)["v1"])


def test_threads_share_large_operations_and_batches() -> None:
    """Large enough to be split by rows (one image) and by images (many): the same bits as one thread."""
    random = np.random.Generator(np.random.PCG64(2))
    bits = random_bits(random, 64, 64, 3, 3)
    weight = random.standard_normal((8, 64, 3, 3)).astype(np.float32)
    operations = [
        operation("elementwise", "image", real="v0", bits="b0"),
        operation("binary_convolution", "b0", bits, real="v1", residual="v0", attributes=PADDED),
        operation("convolution", "v1", {"weight": weight}, real="v2", attributes=PADDED),
    ]
    program = program_of((64, 40, 40), operations, "v2")
    images = random.standard_normal((9, 64, 40, 40)).astype(np.float32)
    one, four = Engine(program), Engine(program, threads=4)
    assert four.threads == 4
    expected = one(images)
    for _ in range(20):
        assert np.array_equal(four(images[:1]), expected[:1])
    assert np.array_equal(four(images), expected)


def test_the_profile_times_a_convolution_whose_input_later_values_overwrite() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    stem = PLAIN | {"stride": [2, 2], "padding": [3, 3, 3, 3]}  # its rows are transformed: it needs finite values
    weight = {"weight": np.zeros((16, 3, 7, 7), np.float32)}
    first = operation("convolution", "image", weight, real="v0", attributes=stem)
    signs = operation("elementwise", "v0", bits="b0")  # all bits are set: as floats they are not finite
    second = operation("binary_convolution", "b0", random_bits(random, 8, 16, 1, 1), real="v1", attributes=PLAIN)
    alone, followed = program_of((3, 32, 32), [first], "v0"), program_of((3, 32, 32), [first, signs, second], "v1")
    for name in SETS:
        times = [Engine(program, name).profile(7)[0] for program in (alone, followed)]
        assert times[1] > times[0] / 10, name


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETS:
        monkeypatch.setenv("BIPER_ISA", name)
        assert Engine(small_program()).instruction_set == name
    monkeypatch.setenv("BIPER_ISA", "sse9")
    with pytest.raises(ModelFormatError, match="unknown instruction set sse9"):
        Engine(small_program())
