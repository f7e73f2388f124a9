"""An encoded picture to pixels: decoded no larger than needed, cropped and resized.

A crop and the resizing after it are one pass over the decoded pixels. A JPEG file can be decoded at a half, a quarter
or an eighth of its size, which Pillow calls a draft: the decoder then skips the detail instead of computing it first.
A draft is used where the crop is that much larger than the result.
"""

from __future__ import annotations

import io
from os import PathLike

from PIL import Image, UnidentifiedImageError

from biper.io.pictures import BACKGROUND, in_mode, upright

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a crop, in pixels of the whole picture."""


def open_picture(source: bytes | str | PathLike[str], *, turned: bool = True) -> Image.Image:
    """Open a picture and read its header only; its pixels are read by `crop_and_resize`.

    Args:
        source: the content of a file, or its path.
        turned: honour the EXIF tag. A picture whose tag says that it lies on its side is read whole and turned.

    Raises:
        OSError: there is no such file, or it is no picture of a format that Pillow reads.
    """
    try:
        opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError:
        reason = "no picture of a format that Pillow reads"  # the text of Pillow names an address in memory
        raise OSError(reason) from None
    return upright(opened) if turned else opened


def central_box(width: int, height: int, size: tuple[int, int], resize: int | tuple[int, int]) -> Box:
    """The part of a picture that is its centre once the picture is resized.

    Args:
        width, height: of the picture, in pixels.
        size: height and width of the centre, in pixels of the resized picture.
        resize: the shorter side of the resized picture, which keeps its shape; or its height and width.
    """
    if isinstance(resize, int):
        short = min(width, height)
        rows, columns = resize * height // short, resize * width // short
    else:
        rows, columns = resize
    left, top = round((columns - size[1]) / 2), round((rows - size[0]) / 2)
    return (
        left * width / columns,
        top * height / rows,
        (left + size[1]) * width / columns,
        (top + size[0]) * height / rows,
    )


def crop_and_resize(
    image: Image.Image,
    box: Box,
    size: tuple[int, int],
    margin: int,
    *,
    mode: str = "RGB",
    interpolation: Image.Resampling = Image.Resampling.BILINEAR,
    background: tuple[int, int, int] = BACKGROUND,
    white: float | None = None,
) -> Image.Image:
    """Cut a box out of a picture and resize it, with antialiasing.

    Args:
        image: a picture. If ``margin`` is not 0 it is from `open_picture`, and its pixels were not read yet.
        box: the crop.
        size: height and width of the result, in pixels.
        margin: a drafted crop is at least ``margin * size`` pixels high and wide, so that the resizing has enough
            pixels to average. 0 makes no draft.
        mode, background, white: see `biper.io.pictures.in_mode`.
        interpolation: the filter.

    Returns:
        The picture in the mode, of the given size.

    Raises:
        One of `biper.io.pictures.UNREADABLE`: the pixels cannot be read.
    """
    width, height = image.size
    shrunk = min((box[2] - box[0]) / size[1], (box[3] - box[1]) / size[0])
    for factor in (8, 4, 2):
        if margin and shrunk / margin >= factor:
            drafted = image.draft(None, (width // factor, height // factor))  # None: the format has no drafts
            if drafted is not None:
                columns, rows = drafted[1][2] / width, drafted[1][3] / height
                box = (box[0] * columns, box[1] * rows, box[2] * columns, box[3] * rows)
            break
    return in_mode(image, mode, background, white).resize((size[1], size[0]), interpolation, box)
