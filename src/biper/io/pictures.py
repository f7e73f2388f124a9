"""Pictures of any format that Pillow opens, for data loading and for prediction."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

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


BACKGROUND = (255, 255, 255)
"""The colour, white, that shows through the transparent parts of a picture if no other is asked for."""

_ORIENTATION_TAG = 0x112


def upright(image: Image.Image) -> Image.Image:
    """Turn and mirror a picture as its EXIF orientation tag says; a picture without a valid tag stays as it is.

    Raises:
        One of `UNREADABLE`: the pixels of a picture that has to be turned cannot be read.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except UNREADABLE:  # a damaged tag is no reason to lose the picture
        return image
    return image if orientation not in range(2, 9) else ImageOps.exif_transpose(image)


def in_mode(
    image: Image.Image, mode: str, background: tuple[int, int, int] = BACKGROUND, white: float | None = None
) -> Image.Image:
    """Read the pixels of a picture, and convert it to 8-bit colours (``"RGB"``) or 8-bit grey (``"L"``).

    - 16-bit grey values are divided by 257, so that 65535 becomes 255.
    - 32-bit integers are taken for 16-bit values if the largest is above 255, else for 8-bit values.
    - Floating-point values are taken for shares of white if all lie between 0 and 1, else for 8-bit values.
    - If ``white`` is given, all of these are divided by it instead, so that it becomes 255.
    - Transparent parts show the background.

    Raises:
        One of `UNREADABLE`: the pixels cannot be read.
    """
    image.load()
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode, white))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # a direct conversion would warn of the transparency of the palette
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.new("RGBA", image.size, (*background, 255))
        image.alpha_composite(colours)
    return image.convert(mode)


def _eight_bits(pixels: NDArray[Any], mode: str, white: float | None) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits as 8-bit values; see `in_mode`."""
    values = pixels.astype(np.float64)
    largest = float(values.max()) if values.size else 0.0
    if white is not None:
        values = values / white * 255
    elif mode.startswith("I;16") or (mode == "I" and largest > 255):
        values = values / 257
    elif mode == "F" and largest <= 1 and float(values.min()) >= 0:
        values = values * 255
    if not np.isfinite(values).all():
        raise ValueError("the picture has values that are not finite")
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
