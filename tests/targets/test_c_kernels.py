"""The C operators of binary convolutions alone: their sums on many shapes are those of NumPy."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.compiled import WARNINGS, require

from biper.targets.c.kernels import MOST_CHANNELS, BinaryLayer
from biper.targets.c.text import fours_of, lanes_of, pairs_of, sections, units_of
from biper.targets.c.uses import uses_text

HARNESS = """
#include <stdint.h>
static int32_t *sums_made;
#define MODEL_SUM(e, pixel, channel, sum) (sums_made[(pixel) * (e)->channels + (channel)] = (sum))
{operators}
void run(int by_tables, const int16_t *numbers, const uint16_t *in, const uint32_t *weight, const int32_t *threshold,
         uint32_t *scratch, uint16_t *bits, int32_t *sums);
void run(int by_tables, const int16_t *numbers, const uint16_t *in, const uint32_t *weight, const int32_t *threshold,
         uint32_t *scratch, uint16_t *bits, int32_t *sums)
{{
    binary_convolution_t o = {{0}};
    const int16_t *n = numbers;
    const geometry_t g = {{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7],
                          n[8], n[9], n[10], n[11], n[12], n[13], n[1]}};
    o.in = in, o.weight = weight, o.scratch = scratch, o.units = numbers[14], o.rows = numbers[15], o.geometry = g;
    o.epilogue.threshold = threshold, o.epilogue.bits = bits, o.epilogue.products = n[0] * n[6] * n[7];
    o.epilogue.channels = numbers[3], o.epilogue.units = (int16_t)((numbers[3] + 15) / 16);
    sums_made = sums;
    (by_tables ? lookup_convolution : binary_convolution)(&o, 0, numbers[16]);
    (by_tables ? lookup_convolution : binary_convolution)(&o, numbers[16], numbers[4]);
}}
"""


def harness() -> str:
    parts = [
        *sections("fixed", ["types"]),
        *sections("operators", ["activations"]),
        uses_text([]).replace("= 0", "= 1"),  # everything is compiled
        *sections("bits", ["trace", "put_bit"]),
        *sections("fixed", ["finish"]),
        *sections("bits", ["finish_sum"]),
        *sections("bits", ["finish_each"]),
        *sections("fixed", ["sixteen", "finish_counts"]),
        *sections("operators", ["taps", "ring_row"]),
        *sections("binary", ["binary_convolution_type"]),
        *sections("bits", ["popcount", "count", "count_masked", "count_four"]),
        *sections("binary", ["binary_convolution"]),
        *sections("lookup", ["lookup", "lookup_convolution"]),
    ]
    return HARNESS.format(operators="\n".join(parts))


def pointer(array: NDArray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def reference(
    signs: NDArray, weight: NDArray, stride: list[int], padding: list[int], dilation: list[int], size: list[int]
) -> NDArray:
    """Sums (row, column, channel); ``padding`` is top, bottom, left, right."""
    channels, height, width = signs.shape
    padded = np.zeros((channels, height + padding[0] + padding[1], width + padding[2] + padding[3]), np.int64)
    padded[:, padding[0] : padding[0] + height, padding[2] : padding[2] + width] = signs
    sums = np.zeros((*size, len(weight)), np.int64)
    for ky, kx in np.ndindex(weight.shape[2:]):
        top, left = ky * dilation[0], kx * dilation[1]
        rows = padded[:, top : top + size[0] * stride[0] : stride[0], left : left + size[1] * stride[1] : stride[1]]
        sums += np.einsum("chw,oc->hwo", rows[:, : size[0], : size[1]], weight[:, :, ky, kx])
    return sums


@pytest.mark.parametrize(
    ("compiler", "flags", "shapes"),
    [
        ("gcc", "-O1 -fsanitize=undefined -fno-sanitize-recover=all", 150),
        pytest.param("gcc", "-O2", 3000, marks=pytest.mark.slow),
        pytest.param("gcc", "-O2 -mpopcnt", 3000, marks=pytest.mark.slow),
        pytest.param("clang", "-O2 -fsanitize=undefined -fsanitize-trap=all", 3000, marks=pytest.mark.slow),
    ],
)
def test_sums_and_bits_of_many_shapes(compiler: str, flags: str, shapes: int, tmp_path: Path) -> None:
    (tmp_path / "kernels.c").write_text(harness())
    library = tmp_path / f"kernels-{compiler}-{shapes}-{len(flags)}.so"
    quiet = [*WARNINGS, "-Wconversion", "-Wno-unused-function"]
    command = [require(compiler), *quiet, *flags.split(), "-shared", "-fPIC", "-o", library, "kernels.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = ctypes.CDLL(str(library)).run
    random = np.random.Generator(np.random.PCG64(shapes))
    for _ in range(shapes):
        channels = int(random.choice([1, 3, 16, 17, 32, 48, 64, 100, MOST_CHANNELS - 1]))
        out = int(random.integers(1, 40))
        kernel, stride, dilation = (random.integers(1, most, 2).tolist() for most in (6, 4, 3))
        height, width = random.integers(1, 12, 2).tolist()
        padding = random.integers(0, 4, 4).tolist()
        reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
        room = [height + padding[0] + padding[1] - reach[0], width + padding[2] + padding[3] - reach[1]]
        if min(room) < 0:
            continue
        size = [room[axis] // stride[axis] + 1 for axis in (0, 1)]
        positive, x = random.random((out, channels, *kernel)) < 0.5, random.random((channels, height, width)) < 0.5
        if random.random() < 0.2:  # all agree, or all differ: the largest sums
            positive[:], x[:] = bool(out % 2), bool(height % 2)
        sums = reference(x * 2 - 1, positive * 2 - 1, stride, padding, dilation, size)
        threshold = random.integers(-20, 20, out).astype(np.int32)
        units = units_of(positive)
        rows = units_of(x[None])[0].reshape(-1)
        numbers = [channels, height, width, out, *size, *kernel, *stride, padding[0], padding[2], *dilation]
        layer = BinaryLayer(units[0].size, out, size[0] * size[1], positive[0].size, kernel[0], channels)
        for by_tables in (False, True):
            given = lanes_of(units) if by_tables else (fours_of if "-mpopcnt" in flags else pairs_of)(units)
            tables = int(random.integers(1, kernel[0] + 1))
            more = [units.shape[-1], tables, int(random.integers(0, size[0] + 1))]
            scratch = np.zeros(128 * layer.units + 8 * layer.pixels + 64, np.uint32)
            bits = np.zeros((*size, -(-out // 16)), np.uint16)
            made = np.full((*size, out), 1 << 20, np.int32)
            arrays = [np.array([*numbers, *more], np.int16), rows, np.ascontiguousarray(given), threshold]
            run(int(by_tables), *map(pointer, [*arrays, scratch, bits, made]))
            assert np.array_equal(made, sums), (by_tables, numbers, more)
            expected = units_of((sums >= threshold).transpose(2, 0, 1)[None])[0]
            assert np.array_equal(bits, expected.reshape(bits.shape)), (by_tables, numbers, more)
