"""What happens to a picture between its file and the normalization: evaluation and prediction share this code.

A packed file contains a `Preprocessing`, so that prediction computes what evaluation computed on the same picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biper.errors import ModelError, did_you_mean
from biper.io.decode import Box, central_box, crop_and_resize, open_picture
from biper.io.pictures import BACKGROUND, upright

INTERPOLATIONS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""The filters by name. All but nearest average the pixels of the picture where the picture becomes smaller."""

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
"""The orders of channels, and how many channels each has."""

MAX_SIDE = 1 << 16
"""The largest height or width, in pixels."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture of any format and size becomes the pixels that a network takes.

    The steps, in their order: the picture is turned as its EXIF tag says; values of more than 8 bits are scaled to 8
    bits; transparent parts show the background; colours are converted to the channels; the picture is resized, and its
    centre is cut out. Resizing and cutting are one pass, which rounds once. Normalization follows, which is not part of
    this: it is ``(pixels / 255 - mean) / std``.

    Example:
        ``Resize(256)`` and ``CenterCrop(224)`` of torchvision are ``Preprocessing((224, 224), resize=256)``.

    Args:
        size: height and width of the result, in pixels.
        resize: the shorter side of the resized picture, in pixels, so that the picture keeps its shape; or the height
            and width to which it is squeezed. At least ``size``, so that the centre can be cut out. The default is
            ``size``: the whole picture is squeezed to it.
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``; all but the first are antialiased.
        channels: ``"RGB"``, ``"BGR"`` (the order of OpenCV) or ``"L"`` (grey, by ITU-R 601).
        background: the colour, (red, green, blue) from 0 to 255, that shows through transparent parts.
        white: the value of white in pictures of more than 8 bits, such as 4095 for pictures of 12 bits that are stored
            in 16. None: 65535 for 16 bits; for 32-bit integers 65535 if a value is above 255, else 255; for
            floating-point numbers 1 if all are between 0 and 1, else 255.
        exif_orientation: whether the picture is turned as its EXIF tag says.
        draft_margin: where the part of a JPEG file that is used is at least 2, 4 or 8 times ``draft_margin * size``
            pixels high and wide, the file is decoded at a half, a quarter or an eighth of its size. This is quicker,
            and differs by a few shades. 0: never.

    Raises:
        ModelError: a value is not one of these.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    channels: str = "RGB"
    background: tuple[int, int, int] = BACKGROUND
    white: float | None = None
    exif_orientation: bool = True
    draft_margin: int = 0

    def __post_init__(self) -> None:
        if self.resize is None:
            object.__setattr__(self, "resize", self.size)
        sides = [*self.size, *(self.resize if isinstance(self.resize, tuple) else (self.resize,))]
        if len(self.size) != 2 or len(sides) > 4 or not all(_is_integer(side, 1, MAX_SIDE) for side in sides):
            raise ModelError(
                f"expected size=(height, width), and resize=... a side or (height, width), from 1 to {MAX_SIDE:,} "
                f"pixels; got {self.size!r} and {self.resize!r}"
            )
        if any(small > large for small, large in zip(self.size, self._resized(), strict=True)):
            raise ModelError(f"resize={self.resize!r} is too small to cut out size={self.size!r}: expected no less")
        for name, known in (("interpolation", INTERPOLATIONS), ("channels", CHANNELS)):
            value = getattr(self, name)
            if value not in known:
                raise ModelError(f"{name}={value!r} is not known{did_you_mean(str(value), known)}")
        if len(self.background) != 3 or not all(_is_integer(value, 0, 255) for value in self.background):
            raise ModelError(f"background={self.background!r} is no colour: expected 3 integers from 0 to 255")
        if self.white is not None and not (isinstance(self.white, int | float) and 0 < self.white < 1e30):
            raise ModelError(f"white={self.white!r} is no positive number")
        if not _is_integer(self.draft_margin, 0, 64):
            raise ModelError(f"draft_margin={self.draft_margin!r} is no integer from 0 to 64")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the image that a network gets."""
        return (CHANNELS[self.channels], *self.size)

    def read(self, file: str | PathLike[str] | bytes) -> NDArray[np.uint8]:
        """Read a picture file, or its content: (H, W, C) uint8.

        Raises:
            One of `biper.io.pictures.UNREADABLE`: it is no picture, or it is truncated or corrupt.
        """
        return self._pixels(open_picture(file, turned=self.exif_orientation), self.draft_margin)

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Convert a Pillow picture of any mode and size: (H, W, C) uint8.

        The pixels are those of `read` of a file with this picture, but for a JPEG file that `read` decodes at a smaller
        size. The picture stays as it is.

        Raises:
            One of `biper.io.pictures.UNREADABLE`: the pixels of the picture cannot be read.
        """
        return self._pixels(upright(picture) if self.exif_orientation else picture, 0)

    def box(self, width: int, height: int) -> Box:
        """The part of a picture of ``width`` x ``height`` pixels that becomes the result."""
        return central_box(width, height, self.size, self.size if self.resize is None else self.resize)

    def _pixels(self, picture: Image.Image, margin: int) -> NDArray[np.uint8]:
        resized = crop_and_resize(
            picture,
            self.box(*picture.size),
            self.size,
            margin,
            mode="L" if self.channels == "L" else "RGB",
            interpolation=INTERPOLATIONS[self.interpolation],
            background=self.background,
            white=self.white,
        )
        height, width = self.size
        pixels = np.asarray(resized, np.uint8).reshape(height, width, -1)
        return np.ascontiguousarray(pixels[..., ::-1]) if self.channels == "BGR" else pixels

    def _resized(self) -> tuple[int, int]:
        """The least height and width that the resized picture can have."""
        if isinstance(self.resize, int):
            return self.resize, self.resize
        return self.size if self.resize is None else self.resize

    def to_json(self) -> dict[str, Any]:
        """The entries of a packed file; see `biper.runtime.program`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        height, width = self.size
        order = {"RGB": "red, green, blue", "BGR": "blue, green, red", "L": "grey"}[self.channels]
        if isinstance(self.resize, int):
            text = f"the shorter side resized to {self.resize} pixels"
        else:
            text = "resized to {} x {}".format(*self._resized()[::-1])
        if self.resize != self.size:
            text += f", the central {width} x {height} cut out"
        return f"{text} ({self.interpolation}), {order}"


def squeezed(shape: tuple[int, ...]) -> Preprocessing:
    """What prediction does with a picture if a packed file says nothing: the whole of it is squeezed to the size.

    Args:
        shape: (C, H, W), the shape of the image that the network takes, with 1 or 3 channels.
    """
    channels, height, width = shape
    return Preprocessing((height, width), channels="L" if channels == 1 else "RGB")


def _is_integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
