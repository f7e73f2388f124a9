"""Pictures of any format that Pillow opens, for data loading and for prediction."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""The exceptions that Pillow raises for a file that is truncated, corrupt, too large, or no picture at all."""


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Read the pixels of a picture, and convert it to a mode such as ``"RGB"`` or ``"L"``; transparency is dropped.

    Raises:
        One of `UNREADABLE`: the pixels cannot be read.
    """
    if image.mode == mode:
        image.load()
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # a direct conversion would warn of the transparency of the palette
    return image.convert(mode)
