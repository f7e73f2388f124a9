"""Logarithms of the energies of 32 mel bands, in integers: what `mel.c` computes, bit for bit, in NumPy.

A frame is 512 samples of 16 kHz, and a frame begins every 320 samples, 20 ms. The steps:

    emphasis     y[n] = x[n] - x[n-1] + floor(x[n-1] / 32)            x int16
    window       floor(y[n] hann[n] / 2^13)                           hann int16
    spectrum     of 512 real numbers as 256 complex ones: butterflies in int32, products floor(a w / 2^15) in 64 bits
    power        re^2 + im^2 in 64 bits
    bands        sums of power times triangles of the mel scale, whose weights are 0 to 256
    logarithm    32 log2, of which a table of 64 numbers has the fraction

Tables are integers that `tables_header` writes for C, so that both compute with the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]

RATE = 16_000
FRAME, HOP, BANDS = 512, 320, 32
FRAMES = 49
"""The frames of a second, which the network reads."""

OFFSET, UNIT = 1100, 7
"""The network reads ``(feature - OFFSET) / 2^UNIT``."""

_HALF = FRAME // 2
_LOWEST, _HIGHEST = 60.0, 7_600.0


def _mel(hertz: float | Array) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700))


def _tables() -> dict[str, Array]:
    """The constants of the steps, by the names that they have in C."""
    angle = 2 * np.pi * np.arange(_HALF) / FRAME
    corners = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), BANDS + 2)
    place = (_mel(np.arange(_HALF) * RATE / FRAME) - corners[0]) / (corners[1] - corners[0])
    inside = (place > 0) & (place < BANDS + 1)
    band = np.where(inside, np.floor(place), 0).astype(np.int64)
    return {
        "hann": np.rint(32767 * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME))).astype(np.int64),
        "cosines": np.rint(32767 * np.cos(angle)).astype(np.int64),
        "sines": np.rint(32767 * np.sin(angle)).astype(np.int64),
        # A bin rises in band number `band` by its weight, and falls in the band before it by 256 less the weight.
        "band": np.where(inside, band, -1),
        "rising": np.where(inside, np.rint(256 * (place - band)), 0).astype(np.int64),
        "logarithm": np.rint(32 * np.log2(1 + np.arange(64) / 64)).astype(np.int64),
    }


TABLES = _tables()


def tables_header() -> str:
    """A C header with the sizes and, where ``MEL_TABLES`` is defined, the tables."""
    kinds = {"band": "int8_t", "rising": "int16_t", "logarithm": "uint8_t"}
    text = ["#include <stdint.h>\n"]
    sizes = {"FRAME": FRAME, "HALF": _HALF, "HOP": HOP, "BANDS": BANDS, "FRAMES": FRAMES, "OFFSET": OFFSET}
    text.append(f"enum {{ {', '.join(f'{name} = {size}' for name, size in sizes.items())} }};")
    text.append("#ifdef MEL_TABLES")
    for name, table in TABLES.items():
        numbers = ", ".join(map(str, table))
        text.append(f"static const {kinds.get(name, 'int16_t')} {name}[{len(table)}] = {{{numbers}}};")
    return "\n".join([*text, "#endif", ""])


def features(samples: NDArray[np.int16]) -> Array:
    """The features of a recording.

    Args:
        samples: int16 (N,), at 16 kHz. The sample before the first counts as 0.

    Returns:
        int64 (frames, 32), in units of 1/32 of an octave of power.
    """
    x = samples.astype(np.int64)
    before = np.concatenate([[0], x[:-1]])
    y = x - before + (before >> 5)
    count = max((len(x) - FRAME) // HOP + 1, 0)
    frames = np.stack([y[HOP * i : HOP * i + FRAME] for i in range(count)]) if count else np.zeros((0, FRAME), np.int64)
    return _logarithms(_bands(_power(frames * TABLES["hann"] >> 13)))


def _power(frames: Array) -> Array:
    """The power of the first 256 bins: a complex transform of half the length, and what it says of real numbers."""
    re, im = _transform(frames[:, 0::2], frames[:, 1::2])
    k = np.arange(_HALF)
    mirrored_re, mirrored_im = re[:, -k % _HALF], im[:, -k % _HALF]
    even_re, even_im = re + mirrored_re >> 1, im - mirrored_im >> 1
    odd_re, odd_im = im + mirrored_im >> 1, mirrored_re - re >> 1
    cosine, sine = TABLES["cosines"], TABLES["sines"]
    out_re = even_re + (odd_re * cosine >> 15) + (odd_im * sine >> 15)
    out_im = even_im + (odd_im * cosine >> 15) - (odd_re * sine >> 15)
    return out_re * out_re + out_im * out_im


def _transform(re: Array, im: Array) -> tuple[Array, Array]:
    """A Fourier transform of 256 complex integers, decimated in time, with butterflies in place."""
    bits = _HALF.bit_length() - 1
    order = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(_HALF)])
    re, im = re[:, order].copy(), im[:, order].copy()
    size = 1
    while size < _HALF:
        step = np.arange(size) * (FRAME // (2 * size))
        cosine, sine = TABLES["cosines"][step], TABLES["sines"][step]
        first = (np.arange(0, _HALF, 2 * size)[:, None] + np.arange(size)).reshape(-1)
        second = first + size
        cosine, sine = (np.tile(table, _HALF // (2 * size)) for table in (cosine, sine))
        turned_re = (re[:, second] * cosine >> 15) + (im[:, second] * sine >> 15)
        turned_im = (im[:, second] * cosine >> 15) - (re[:, second] * sine >> 15)
        re[:, second], im[:, second] = re[:, first] - turned_re, im[:, first] - turned_im
        re[:, first], im[:, first] = re[:, first] + turned_re, im[:, first] + turned_im
        size *= 2
    return re, im


def _bands(power: Array) -> Array:
    made = np.zeros((len(power), BANDS), np.int64)
    for column, (band, rising) in enumerate(zip(TABLES["band"], TABLES["rising"], strict=True)):
        if 0 <= band < BANDS:
            made[:, band] += power[:, column] * rising
        if band > 0:
            made[:, band - 1] += power[:, column] * (256 - rising)
    return made


def _logarithms(values: Array) -> Array:
    """``32 log2(value + 1)``: the place of the highest bit, and a table for the six bits after it."""
    values = values + 1
    highest = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    highest -= values < np.left_shift(1, highest)  # where float64 rounded a value up to the next power of 2
    rest = np.where(highest >= 6, values >> np.maximum(highest - 6, 0), values << np.maximum(6 - highest, 0)) & 63
    return 32 * highest + TABLES["logarithm"][rest]
