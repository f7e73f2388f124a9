"""Pieces of C text: literals, tables, initializers, and the sections of the operators' files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray


def units_of(bits: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Pack bits (O, I, kh, kw) into units [O][kh][kw][ceil(I / 16)], the first channel in the lowest bit."""
    spare = -bits.shape[1] % 16
    padded = np.pad(bits, ((0, 0), (0, spare), (0, 0), (0, 0))).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little")).view("<u2")


def words_of(bits: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Pack bits (O, I, kh, kw) into words [O][kh][kw][ceil(I / 32)], the first channel in the lowest bit."""
    spare = -bits.shape[1] % 32
    padded = np.pad(bits, ((0, 0), (0, spare), (0, 0), (0, 0))).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little")).view("<u4")


def pairs_of(units: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Put the units (O, ...) of each output channel two into a word, the first in the low half."""
    flat = units.reshape(len(units), -1)
    return np.ascontiguousarray(np.pad(flat, ((0, 0), (0, flat.shape[1] % 2)))).view("<u4")


def fours_of(units: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """The words of `pairs_of` as [ceil(O / 4)][two words][channel][word], then [channel] of a last one word."""
    words = pairs_of(units)
    blocks = np.pad(words, ((0, -len(words) % 4), (0, 0))).reshape(-1, 4, words.shape[1])
    even = words.shape[1] // 2 * 2
    twos = blocks[:, :, :even].reshape(len(blocks), 4, -1, 2).transpose(0, 2, 1, 3)
    return np.concatenate([part.reshape(len(blocks), -1) for part in (twos, blocks[:, :, even:])], axis=1)


TABLE_LANES = 0, 4, 2, 6, 1, 5, 3, 7
"""Which of 8 channels has the lowest, the second, ... 4 bits of a word of weights, as `sources/lookup.c` takes them."""


def lanes_of(units: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Weights in units (O, ...) as words [ceil(O / 16)][unit][4 bits of it][half of 16 channels]."""
    flat = units.reshape(len(units), -1).astype(np.uint32)
    flat = np.pad(flat, ((0, -len(flat) % 16), (0, 0)))
    parts = flat[..., None] >> np.arange(0, 16, 4, dtype=np.uint32) & 15  # (O, unit, part)
    halves = parts.reshape(-1, 2, 8, *parts.shape[1:])[:, :, list(TABLE_LANES)]  # (block, half, lane, unit, part)
    shifts = np.arange(0, 32, 4, dtype=np.uint32).reshape(8, 1, 1)
    words = np.bitwise_or.reduce(halves << shifts, axis=2)
    return np.asarray(words.transpose(0, 2, 3, 1), np.uint32)


def sections(file: str, wanted: Sequence[str]) -> list[str]:
    """Parts of a C file of this package.

    Args:
        file: its name without suffix.
        wanted: names of ``@section`` comments; the parts come in this order.
    """
    text = resources.files("biper.targets.c").joinpath("sources", f"{file}.c").read_text(encoding="utf-8")
    parts = re.split(r"/\* @section (\w+) \*/\n", text)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return [found[name].rstrip() + "\n" for name in wanted]


def initializer(fields: Mapping[str, Any]) -> str:
    """A braced initializer of a struct, by the names of its fields."""
    return "{" + ", ".join(f".{key} = {value}" for key, value in fields.items()) + "}"


def number(value: Any) -> str:
    """A literal: float32 with all its bits, uint32 in hexadecimal, other integers in decimal."""
    if isinstance(value, np.float32) and np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"  # of math.h
    if isinstance(value, np.float32):
        text = f"{value:.9g}"
        return text + ("f" if re.search(r"[.e]", text) else ".0f")
    if isinstance(value, np.uint32):
        return f"0x{int(value):08x}u"
    return str(int(value))


def rows(entries: Sequence[str]) -> str:
    """The lines of a table, each at most 120 characters long where entries are short."""
    width = max(map(len, entries)) + 2
    each = max(1, 116 // width)
    lines = [", ".join(entries[start : start + each]) for start in range(0, len(entries), each)]
    return "".join(f"    {row},\n" for row in lines)


def string(text: str) -> str:
    """A string literal; bytes outside plain ASCII are octal escapes, which end after three digits."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def comment(text: str) -> str:
    """The text of a comment, with every character that could end it replaced."""
    return re.sub(r"[^\w .,:()\[\]-]", "_", text, flags=re.ASCII)
