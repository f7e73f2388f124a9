"""An encoded picture to pixels: decoded no larger than needed, cropped and resized.

A crop and the resizing after it are one pass over the decoded pixels. A JPEG file can be decoded at a half, a quarter
or an eighth of its size, which Pillow calls a draft: the decoder then skips the detail instead of computing it first.
A draft is used where the crop is that much larger than the result.
"""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from biper.io.pictures import in_mode, upright

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a crop, in pixels of the whole picture."""


def open_picture(blob: bytes) -> Image.Image:
    """Open a picture and read its header only; its pixels are read by `crop_and_resize`.

    A picture whose EXIF tag says that it lies on its side is read whole and turned.

    Raises:
        OSError: the bytes are no picture of a format that Pillow reads.
    """
    try:
        return upright(Image.open(io.BytesIO(blob)))
    except UnidentifiedImageError:
        reason = "no picture of a format that Pillow reads"  # the text of Pillow names an address in memory
        raise OSError(reason) from None


def crop_and_resize(image: Image.Image, box: Box, size: int, margin: int) -> Image.Image:
    """Cut a box out of a picture and resize it, bilinearly with antialiasing.

    Args:
        image: from `open_picture`; its pixels were not read yet.
        box: the crop.
        size: height and width of the result, in pixels.
        margin: a drafted crop is at least ``margin * size`` pixels high and wide, so that the resizing has enough
            pixels to average.

    Returns:
        The picture in mode RGB, ``size`` x ``size`` pixels.

    Raises:
        One of `biper.io.pictures.UNREADABLE`: the pixels cannot be read.
    """
    width, height = image.size
    smaller = min(box[2] - box[0], box[3] - box[1]) / (size * margin)
    for factor in (8, 4, 2):
        if smaller >= factor:
            drafted = image.draft(None, (width // factor, height // factor))  # None: the format has no drafts
            if drafted is not None:
                columns, rows = drafted[1][2] / width, drafted[1][3] / height
                box = (box[0] * columns, box[1] * rows, box[2] * columns, box[3] * rows)
            break
    return in_mode(image, "RGB").resize((size, size), Image.Resampling.BILINEAR, box)
