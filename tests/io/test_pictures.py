"""Pictures as the model sees them: turned as their tag says, all shades kept, transparency on white."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from biper.io.decode import crop_and_resize, open_picture
from biper.io.pictures import in_mode, upright

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 16, 3), dtype=np.uint8)


def tagged(orientation: int, form: str = "PNG") -> Image.Image:
    exif = Image.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, exif=exif, **({"quality": 95} if form == "JPEG" else {}))
    return Image.open(buffer)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_its_tag_says(orientation: int, form: str) -> None:
    expected = ImageOps.exif_transpose(tagged(orientation, form))
    turned = upright(tagged(orientation, form))
    assert turned.size == ((24, 16) if orientation >= 5 else (16, 24))
    assert np.array_equal(np.asarray(turned), np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 1, 9, 255])
def test_a_tag_without_a_meaning_turns_nothing(orientation: int) -> None:
    assert np.array_equal(np.asarray(upright(tagged(orientation))), PIXELS)


def test_training_and_evaluation_decode_the_turned_picture() -> None:
    buffer = io.BytesIO()
    tagged(6).save(buffer, "PNG", exif=tagged(6).getexif())
    decoded = crop_and_resize(open_picture(buffer.getvalue()), (0, 0, 24, 16), (16, 16), 2)
    expected = ImageOps.exif_transpose(tagged(6)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


@given(st.integers(0, 65535))
def test_sixteen_bit_grey_keeps_its_shade(value: int) -> None:
    picture = Image.fromarray(np.full((2, 3), value, np.uint16))
    assert np.asarray(in_mode(picture, "L")).tolist() == [[round(value / 257)] * 3] * 2


def test_sixteen_bit_files_are_read(tmp_path: Path) -> None:
    ramp = (np.arange(1024).reshape(32, 32) * 64).astype(np.uint16)
    for name in ("grey.png", "grey.tiff"):
        Image.fromarray(ramp).save(tmp_path / name)
        read = np.asarray(in_mode(Image.open(tmp_path / name), "L"))
        assert np.array_equal(read, np.rint(ramp / 257))
        assert np.asarray(in_mode(Image.open(tmp_path / name), "RGB")).shape == (32, 32, 3)


def test_floating_point_and_wide_integers_are_scaled() -> None:
    shares = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(np.asarray(in_mode(Image.fromarray(shares), "L")), np.rint(shares * 255))
    assert np.array_equal(np.asarray(in_mode(Image.fromarray(shares * 200), "L")), np.rint(shares * 200))
    wide = np.array([[0, 257, 65535]], np.int32)
    assert np.asarray(in_mode(Image.fromarray(wide), "L")).tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match="not finite"):
        in_mode(Image.fromarray(np.array([[np.nan, 1]], np.float32)), "L")


def test_transparent_parts_show_white() -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(in_mode(picture, "RGB")).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    assert np.asarray(in_mode(Image.new("LA", (1, 1), (0, 0)), "L")).tolist() == [[255]]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert np.asarray(in_mode(palette, "RGB")).tolist() == [[[255, 255, 255]]]


def test_ordinary_pictures_keep_their_pixels() -> None:
    picture = Image.fromarray(PIXELS)
    assert np.array_equal(np.asarray(in_mode(upright(picture), "RGB")), PIXELS)
    assert np.array_equal(np.asarray(in_mode(picture, "L")), np.asarray(picture.convert("L")))
