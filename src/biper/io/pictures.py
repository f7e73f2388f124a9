"""Pictures of any format as Pillow opens them: what data loading and prediction share."""

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
"""What Pillow raises for a file that is truncated, corrupt, too large, or no picture at all."""


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in a mode such as ``"RGB"`` or ``"L"``; transparency is dropped. Reads the pixels.

    Raises:
        One of `UNREADABLE`: the pixels cannot be read.
    """
    if image.mode == mode:
        image.load()
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of a palette's transparency on any other way
    return image.convert(mode)
