"""Generated C, compiled for this machine and called from Python."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biper.targets.c.sizes import description_bytes
from biper.targets.c.source import CSource

CALLS = 40
"""The most operations that make sums, or bits."""

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffreestanding"]

TRACE = """
static int32_t sums[{calls}][{size}];
static uint8_t bits[{calls}][{size}];
static const void *sum_calls[{calls}], *bit_calls[{calls}];
static int trace_call(const void **calls, const void *epilogue)
{{
    int i = 0;
    while (calls[i] != 0 && calls[i] != epilogue) ++i;
    calls[i] = epilogue;
    return i;
}}
#define MODEL_SUM(e, pixel, channel, sum) (sums[trace_call(sum_calls, e)][(pixel) * (e)->channels + (channel)] = (sum))
#define MODEL_BIT(e, pixel, channel, bit) \\
    (bits[trace_call(bit_calls, e)][(pixel) * (e)->channels + (channel)] = (uint8_t)(bit))
"""
GETTERS = """
const int32_t *{name}_sums(void);
const uint8_t *{name}_bits(void);
const int32_t *{name}_sums(void) {{ return sums[0]; }}
const uint8_t *{name}_bits(void) {{ return bits[0]; }}
"""


def require(tool: str) -> str:
    """The path of a program; skips the test where it is not installed."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


class Compiled:
    """Functions of generated sources, by their names.

    ``trace`` is the most sums or bits that an operation makes; with it, `traced` can return them.
    """

    def __init__(
        self, folder: Path, sources: Mapping[str, CSource], compiler: str = "gcc", flags: str = "-O1", trace: int = 0
    ) -> None:
        files = []
        for name, source in sources.items():
            text = source.source
            if trace:
                include = f'#include "{name}.h"\n'
                text = text.replace(include, include + TRACE.format(size=trace, calls=CALLS)) + GETTERS.format(
                    name=name
                )
            (folder / f"{name}.h").write_text(source.header)
            (folder / f"{name}.c").write_text(text)
            files.append(str(folder / f"{name}.c"))
        library = folder / f"{compiler}-{'-'.join(sources)[:60]}.so"  # a path is loaded only once
        command = [require(compiler), *WARNINGS, *flags.split(), "-shared", "-fPIC", "-o", str(library), *files]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.trace = trace
        self.path, self.library = library, ctypes.CDLL(str(library))

    def __call__(self, name: str, pixels: NDArray[np.uint8], outputs: int, dtype: type) -> NDArray:
        """Results (N, outputs) of images (N, H, W, C)."""
        results = np.zeros((len(pixels), outputs), dtype)
        run = getattr(self.library, f"{name}_run")
        for image, result in zip(np.ascontiguousarray(pixels), results, strict=True):
            run(image.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p))
        return results

    def traced(
        self, name: str, image: NDArray[np.uint8], outputs: int, dtype: type
    ) -> tuple[NDArray, NDArray, NDArray]:
        """The results of one image, and what its operations made, in their order: sums and bits, (`CALLS`, trace)."""
        pointers = [getattr(self.library, f"{name}_{what}") for what in ("sums", "bits")]
        for pointer in pointers:
            pointer.restype = ctypes.c_void_p
        result = self(name, image[None], outputs, dtype)
        made = np.ctypeslib.as_array((ctypes.c_int32 * (CALLS * self.trace)).from_address(pointers[0]())).copy()
        seen = np.ctypeslib.as_array((ctypes.c_uint8 * (CALLS * self.trace)).from_address(pointers[1]())).copy()
        return result[0], made.reshape(CALLS, -1), seen.reshape(CALLS, -1)


def cortex_object(folder: Path, source: CSource) -> Path:
    """The object file of a program for a Cortex-M3 at ``-Os``; ``model.su`` beside it has the stack."""
    compiler = require("arm-none-eabi-gcc")
    (folder / "model.h").write_text(source.header)
    (folder / "model.c").write_text(source.source)
    flags = ["-mcpu=cortex-m3", "-mthumb", "-Os", "-fstack-usage", "-c", "-o", "model.o", "model.c"]
    subprocess.run([compiler, *WARNINGS, *flags], cwd=folder, check=True)
    return folder / "model.o"


def section_sizes(built: Path) -> dict[str, int]:
    """The bytes of each section of an object file for a Cortex-M3, by its name without the dot."""
    command = ["arm-none-eabi-size", "-A", str(built)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"^\.(\w+) +(\d+)", listed, re.MULTILINE)}


def bytes_of_single_calls(source: CSource, *, integer: bool) -> int:
    """The descriptions of operators that are called once: a compiler may do without these constants."""
    calls = re.findall(r"^    (\w+)\(&op", source.source, re.MULTILINE)
    return sum(description_bytes(operator, integer=integer) for operator in set(calls) if calls.count(operator) == 1)
