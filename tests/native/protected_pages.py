"""Run convolutions on arrays that end where readable memory ends, so that reading one byte too far kills the process.

test_memory.py runs this file in a process of its own. It prints the number of convolutions.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
from numpy.typing import NDArray

from biper import _native
from biper.runtime.bfloat16 import to_bfloat16

LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def at_the_end(array: NDArray) -> NDArray:
    """Copy an array so that its last byte is the last one before a page that is neither readable nor writable."""
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if LIBC.mprotect(ctypes.c_void_p(address + pages * PAGE), PAGE, 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, array.dtype, array.size, pages * PAGE - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


def convolve(isa: str, random: np.random.Generator, threads: int) -> None:
    """A real convolution, then a binary one, on an image, weights and results that end at protected pages."""
    channels, middle, out = (int(random.integers(1, high)) for high in (40, 70, 40))
    (kernel, step), size = random.integers(1, (6, 3)), int(random.integers(6, 20))
    geometry = [int(step), int(step), *[int(kernel) // 2] * 4, 1, 1, 1]
    images = at_the_end(random.standard_normal((3, channels, size, size)).astype(np.float32))
    engine = _native.Engine(channels, size, size, isa, threads)
    bits, real = _native.Epilogue(), _native.Epilogue()
    bits.bits, real.real = True, True
    weight = random.standard_normal((middle, channels, kernel, kernel)).astype(np.float32)
    if random.integers(2):
        _, first = engine.add_bfloat16_convolution(0, at_the_end(to_bfloat16(weight)), geometry, bits)
    else:
        _, first = engine.add_convolution(0, at_the_end(weight), geometry, bits)
    packed = random.integers(0, 256, (out, kernel, kernel, -(-middle // 8))).astype(np.uint8)
    second, _ = engine.add_binary_convolution(first, at_the_end(packed), geometry, real)
    for _ in range(2):
        size = (size + 2 * (int(kernel) // 2) - int(kernel)) // int(step) + 1
    pixel = -(-out // 16) * 16
    engine.add_output(_native.View(second, [out, size, size], [1, size * pixel, pixel], 0))
    engine.finish()
    results = at_the_end(np.zeros((3, out, size, size), np.float32))
    engine.run([images], [results])
    if not np.any(results):
        raise AssertionError("nothing was computed")


if __name__ == "__main__":
    runs = 0
    for name in sys.argv[1:]:
        generator = np.random.Generator(np.random.PCG64(0))
        for index in range(150):
            convolve(name, generator, 1 + index % 2)
            runs += 1
    sys.stdout.write(f"{runs}\n")
