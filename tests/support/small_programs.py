"""Small packed programs that together have every operation; every engine and format is compared on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biper.runtime.bfloat16 import to_bfloat16
from biper.runtime.program import Operation, Program, pack_weight
from support.programs import PADDED, PLAIN, operation, program_of, random_bits


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


def shifted_operations(random: np.random.Generator, channels: int) -> list[Operation]:
    """Residual blocks with thresholds before their signs, as in ReActNet, and with each of the activations."""

    def moved(number: int) -> dict[str, NDArray]:
        return {"offset": random.uniform(-number, number, channels).astype(np.float32)}

    def block(reads: str, bits: str, makes: str, activation: dict[str, object]) -> Operation:
        tensors = random_bits(random, channels, channels, 3, 3) | affine(random, channels)
        tensors["multiplier"] *= random.choice([0.1, 1.0, 4.0], channels).astype(np.float32)
        if activation.get("activation") == "prelu":
            tensors["slope"] = random.uniform(-0.2, 1.4, channels).astype(np.float32)
        return operation(
            "binary_convolution", bits, tensors, real=makes, residual=reads, attributes=PADDED | activation
        )

    stem = convolution_tensors(random, channels, 3, 3, 3)
    stem["slope"] = random.uniform(0, 0.5, channels).astype(np.float32)
    scaled = {"multiplier": random.uniform(0.5, 2, channels).astype(np.float32)} | moved(0.3)
    return [
        operation("convolution", "image", stem, real="v0", attributes=PADDED | {"activation": "prelu"}),
        operation("elementwise", "v0", scaled, bits="b0"),
        block("v0", "b0", "v1", {"activation": "prelu"}),
        operation("elementwise", "v1", moved(0.3), bits="b1"),
        block("v1", "b1", "v2", {"activation": "relu"}),
        operation("elementwise", "v2", affine(random, channels), bits="b2"),
        block("v2", "b2", "v3", {}),
        operation("elementwise", "v3", moved(0.3), bits="b3"),
        block("v3", "b3", "v4", {"activation": "clip", "low": -1.0, "high": 1.0}),
        operation("elementwise", "v4", moved(0.3), bits="b4"),
        operation("binary_convolution", "b4", random_bits(random, 5, channels, 1, 1), real="y", attributes=PLAIN),
    ]


def small_programs() -> dict[str, Program]:
    """Programs with every operation and unusual geometries, by name."""
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
    for groups, channels in ((1, 5), (2, 6)):
        floats = random.standard_normal((6, channels // groups, 3, 3)).astype(np.float32)
        short = {"weight": to_bfloat16(floats)} | affine(random, 6)
        attributes = PADDED | {"groups": groups}
        add(
            f"bfloat16_{groups}",
            (channels, 7, 6),
            operation("convolution", "image", short, real="y", attributes=attributes),
        )
    int8 = {"weight": random.integers(-128, 128, (6, 5, 3, 3)).astype(np.int8)} | affine(random, 6)
    levels = PADDED | {"input_factor": 100.0, "input_zero": 30}
    add("levels", (5, 7, 7), operation("convolution", "image", int8, real="y", attributes=levels))
    for kind in ("max", "average"):
        for count_padding in (False, True):
            geometry = {"kind": kind, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 1], "size": [4, 7]}
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
    for channels in (16, 20):
        add(f"shifted_{channels}", (3, 6, 7), *shifted_operations(random, channels))
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
    positive = operation("elementwise", "image", {"offset": np.full(200, 300, np.float32)}, bits="b")
    negative = {"weight": pack_weight(np.zeros((2, 200, 3, 3), bool))}
    add(
        "all_differ", (200, 5, 5), positive, operation("binary_convolution", "b", negative, real="y", attributes=PADDED)
    )
    return made
