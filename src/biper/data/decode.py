"""One encoded picture to pixels: decoded no larger than needed, cropped, resized, and for training augmented.

A crop and the resizing after it are one pass over the decoded pixels. A JPEG is decoded at a half, a quarter or an
eighth of its size where the crop is that much larger than what is wanted ("draft"): its decoder then skips the detail
instead of computing it first.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, UnidentifiedImageError

from biper.data.settings import DataRecipe
from biper.io.pictures import in_mode

EVALUATION_CROP = 0.875
"""Side of the central crop, as a share of the resized short side: 224 of 256."""

_ATTEMPTS = 10
_TRAINING_MARGIN, _EVALUATION_MARGIN = 1, 2
"""A drafted crop is at least this many times as large as what is wanted, so that the resizing has enough to average."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the whole picture."""


def decode_for_evaluation(blob: bytes, size: int, crop: float = EVALUATION_CROP) -> NDArray[np.uint8]:
    """The centre of a picture: its short side is resized to ``size / crop``, then ``size`` x ``size`` is cut out.

    Args:
        blob: the file's content, of any format that Pillow reads.
        size: height and width of the result, in pixels.
        crop: the share of the short side that is kept, 0 to 1.

    Returns:
        (size, size, 3) uint8. Resized bilinearly with antialiasing.

    Raises:
        One of `biper.io.pictures.UNREADABLE`.
    """
    opened = _opened(blob)
    return _pixels(_resized(opened, central_box(*opened.size, size, crop), size, _EVALUATION_MARGIN))


def decode_for_training(blob: bytes, size: int, settings: DataRecipe, generator: torch.Generator) -> NDArray[np.uint8]:
    """A random-resized crop of a picture, with colour jitter and mirrored if the settings say so.

    Without ``settings.crop_scale`` it is the crop of `decode_for_evaluation`.

    Args:
        blob: the file's content, of any format that Pillow reads.
        size: height and width of the result, in pixels.
        settings: the augmentation.
        generator: makes every random choice; advanced by the same count whatever they are.

    Returns:
        (size, size, 3) uint8. Resized bilinearly with antialiasing.

    Raises:
        One of `biper.io.pictures.UNREADABLE`.
    """
    numbers = torch.rand(4 * _ATTEMPTS + 4, generator=generator, dtype=torch.float64).tolist()
    opened = _opened(blob)
    if settings.crop_scale is None:
        box = central_box(*opened.size, size, EVALUATION_CROP)
    else:
        box = random_box(*opened.size, settings.crop_scale, settings.crop_ratio, numbers[4:])
    image = _resized(opened, box, size, _TRAINING_MARGIN)
    if settings.colour_jitter:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhancer, number in zip(enhancers, numbers[1:4], strict=True):
            image = enhancer(image).enhance(1 + settings.colour_jitter * (2 * number - 1))
    pixels = _pixels(image)
    return pixels[:, ::-1] if settings.flip and numbers[0] < 0.5 else pixels


def central_box(width: int, height: int, size: int, crop: float) -> Box:
    """Where the central ``size`` x ``size`` pixels come from once the short side is resized to ``size / crop``."""
    short = min(width, height)
    resized = round(size / crop)
    columns, rows = resized * width // short, resized * height // short
    left, top = round((columns - size) / 2), round((rows - size) / 2)
    return (
        left * width / columns,
        top * height / rows,
        (left + size) * width / columns,
        (top + size) * height / rows,
    )


def random_box(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], numbers: list[float]
) -> Box:
    """A box of random area and shape at a random place in a picture of ``width`` x ``height`` pixels.

    The area is uniform in ``scale`` (shares of the picture's) and width through height log-uniform in ``ratio``; ten
    attempts are made to fit in, then it is the largest central box with a ratio in the range.

    Args:
        numbers: 40 numbers, uniform in [0, 1); four for each attempt.

    Source: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_ATTEMPTS):
        area_number, ratio_number, column_number, row_number = numbers[4 * attempt : 4 * attempt + 4]
        area = width * height * (scale[0] + (scale[1] - scale[0]) * area_number)
        shape = math.exp(low + (high - low) * ratio_number)
        columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = int(column_number * (width - columns + 1)), int(row_number * (height - rows + 1))
            return left, top, left + columns, top + rows
    shape = min(max(width / height, ratio[0]), ratio[1])
    columns, rows = min(width, round(height * shape)), min(height, round(width / shape))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def _opened(blob: bytes) -> Image.Image:
    """The picture, of which only the header was read yet."""
    try:
        return Image.open(io.BytesIO(blob))
    except UnidentifiedImageError:
        raise OSError("no picture of a format that Pillow reads") from None  # its own text names a place in memory


def _resized(image: Image.Image, box: Box, size: int, margin: int) -> Image.Image:
    """The box of a picture that was opened but not read yet, as ``size`` x ``size`` RGB pixels."""
    width, height = image.size
    smaller = min(box[2] - box[0], box[3] - box[1]) / (size * margin)
    for factor in (8, 4, 2):
        if smaller >= factor:
            drafted = image.draft(None, (width // factor, height // factor))  # None where the format has no such thing
            if drafted is not None:
                columns, rows = drafted[1][2] / width, drafted[1][3] / height
                box = (box[0] * columns, box[1] * rows, box[2] * columns, box[3] * rows)
            break
    return in_mode(image, "RGB").resize((size, size), Image.Resampling.BILINEAR, box)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image, np.uint8)
