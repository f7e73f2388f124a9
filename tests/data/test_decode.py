from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import encoded, picture, ramp

from biper.data.settings import DataRecipe
from biper.data.transforms import decode_for_evaluation, decode_for_training, random_box
from biper.io.decode import crop_and_resize
from biper.io.pictures import UNREADABLE

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def settings(**changes: Any) -> DataRecipe:
    return DataRecipe(**{"name": "imagenet", "batch_size": 2, "crop_scale": SCALE, "crop_ratio": RATIO, **changes})


def train_pixels(blob: bytes, size: int, seed: int = 0, **changes: Any) -> np.ndarray:
    return decode_for_training(blob, size, settings(**changes), torch.Generator().manual_seed(seed)).astype(int)


@pytest.mark.parametrize("shape", [(500, 375), (333, 500), (256, 256), (100, 90), (901, 257)])
def test_evaluation_is_resize_256_and_centre_crop_224(shape: tuple[int, int]) -> None:
    """The result is compared with the two steps done one after the other, each of which rounds."""
    image = picture(1, *shape)
    width, height = shape
    short = min(shape)
    resized = image.resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    result = decode_for_evaluation(encoded(image, "PNG"), 224)
    assert result.shape == (224, 224, 3)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 1


def test_a_picture_of_the_wanted_size_stays_as_it_is() -> None:
    image = picture(2, 64, 64)
    assert np.array_equal(decode_for_evaluation(encoded(image, "PNG"), 64, crop=1.0), np.asarray(image))


@pytest.mark.parametrize(
    ("size", "margin", "factor"), [(300, 1, 1), (200, 1, 2), (100, 1, 4), (50, 1, 8), (10, 1, 8), (50, 2, 4)]
)
def test_a_jpeg_is_decoded_no_larger_than_needed(size: int, margin: int, factor: int) -> None:
    """The box keeps its position, and the drafted crop is at least ``margin`` times as large as the result."""
    box = (101.0, 53.0, 501.0, 453.0)
    blob = encoded(ramp(801, 603), quality=95)
    opened = Image.open(io.BytesIO(blob))
    pixels = np.asarray(crop_and_resize(opened, box, (size, size), margin)).astype(float)
    assert opened.size == (-(-801 // factor), -(-603 // factor))
    assert 400 / factor >= margin * size or factor == 1
    places = (np.arange(size) + 0.5) / size * 400 - 0.5
    assert np.abs(pixels[..., 0] - (101 + places) * 255 / 800).max() < 4
    assert np.abs(pixels[..., 1] - (53 + places)[:, None] * 255 / 602).max() < 4


def test_drafted_crops_look_like_whole_ones() -> None:
    blob = encoded(picture(3, 1200, 900), quality=90)
    whole = encoded(Image.open(io.BytesIO(blob)), "PNG")
    for seed in range(10):
        difference = np.abs(train_pixels(blob, 64, seed) - train_pixels(whole, 64, seed))
        assert difference.mean() < 1.5
        assert difference.max() < 40


def test_random_boxes_lie_inside_and_have_their_areas_and_shapes() -> None:
    """The distribution is compared with pairs of area and shape drawn by NumPy, of which those that fit are kept."""
    areas, shapes = [], []
    for seed in range(2000):
        numbers = torch.rand(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        left, top, right, bottom = random_box(500, 375, SCALE, RATIO, numbers)
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 375
        areas.append((right - left) * (bottom - top) / (500 * 375))
        shapes.append((right - left) / (bottom - top))
    generator = np.random.default_rng(0)
    area, shape = generator.uniform(*SCALE, 200_000), np.exp(generator.uniform(*np.log(RATIO), 200_000))
    fits = (area * shape <= 500 / 375) & (area / shape <= 375 / 500)
    assert np.mean(areas) == pytest.approx(np.mean(area[fits]), abs=0.02)
    assert np.mean(np.log(shapes)) == pytest.approx(np.mean(np.log(shape[fits])), abs=0.02)
    for quantile in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert np.quantile(areas, quantile) == pytest.approx(np.quantile(area[fits], quantile), abs=0.04)
        assert np.quantile(shapes, quantile) == pytest.approx(np.quantile(shape[fits], quantile), abs=0.04)


@pytest.mark.parametrize(("width", "height"), [(1000, 10), (10, 1000), (1, 1), (3, 1), (2, 2)])
def test_a_picture_that_no_box_fits_gives_its_middle(width: int, height: int) -> None:
    left, top, right, bottom = random_box(width, height, (1.0, 1.0), RATIO, [0.5] * 40)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs((left + right) - width) <= 1
    assert abs((top + bottom) - height) <= 1
    if width == 1000:
        assert (right - left, bottom - top) == (13, 10)


def test_pictures_are_mirrored_half_of_the_time() -> None:
    blob = encoded(ramp(64, 64), "PNG")
    falls = [train_pixels(blob, 16, seed, flip=True)[:, :, 0] for seed in range(400)]
    mirrored = sum(bool(pixels[0, 0] > pixels[0, -1]) for pixels in falls)
    assert 160 < mirrored < 240
    for seed, pixels in enumerate(falls[:20]):
        plain = train_pixels(blob, 16, seed)[:, :, 0]
        assert np.array_equal(pixels, plain) or np.array_equal(pixels, plain[:, ::-1])


def test_without_random_crops_training_sees_what_evaluation_sees() -> None:
    blob = encoded(picture(4, 90, 70))
    assert np.array_equal(train_pixels(blob, 32, crop_scale=None), decode_for_evaluation(blob, 32))


def test_colour_jitter_is_off_by_default_and_moves_colours_only_when_on() -> None:
    blob = encoded(picture(5), "PNG")
    plain = train_pixels(blob, 32)
    jittered = [train_pixels(blob, 32, seed=0, colour_jitter=strength) for strength in (0.0, 1e-9, 0.4)]
    assert np.array_equal(jittered[0], plain)
    assert np.abs(jittered[1] - plain).max() <= 1
    assert 2 < np.abs(jittered[2] - plain).mean() < 100
    grey = encoded(Image.new("RGB", (40, 40), (128, 128, 128)), "PNG")
    levels = [train_pixels(grey, 8, seed, colour_jitter=0.4).mean() for seed in range(300)]
    assert 128 * 0.6 - 1 <= min(levels) < 128 * 0.65
    assert 128 * 1.35 < max(levels) <= 128 * 1.4 + 1


PALETTE = Image.new("RGB", (40, 30), (200, 30, 40)).convert("P", palette=Image.Palette.ADAPTIVE)


@pytest.mark.parametrize(
    ("image", "kind", "options", "colour"),
    [
        (Image.new("CMYK", (40, 30), (0, 255, 255, 0)), "JPEG", {}, (255, 0, 0)),
        (Image.new("L", (40, 30), 90), "JPEG", {}, (90, 90, 90)),
        (PALETTE, "PNG", {}, (200, 30, 40)),
        (PALETTE, "PNG", {"transparency": bytes([0] * 200)}, (255, 255, 255)),
        (PALETTE, "PNG", {"transparency": 3}, (200, 30, 40)),
        (Image.new("RGBA", (40, 30), (10, 200, 30, 5)), "PNG", {}, (250, 254, 251)),
        (Image.new("LA", (40, 30), (70, 0)), "PNG", {}, (255, 255, 255)),
        (Image.new("1", (40, 30), 1), "PNG", {}, (255, 255, 255)),
        (Image.new("RGB", (40, 30), (1, 2, 250)), "WEBP", {"lossless": True}, (1, 2, 250)),
    ],
    ids=["cmyk", "grey", "palette", "transparent palette", "one transparent colour", "rgba", "la", "1 bit", "webp"],
)
def test_every_kind_of_picture_becomes_rgb(
    image: Image.Image, kind: str, options: dict[str, Any], colour: tuple[int, int, int]
) -> None:
    """Transparent parts show white."""
    blob = encoded(image, kind, **options)
    for pixels in (decode_for_evaluation(blob, 16), train_pixels(blob, 16)):
        assert pixels.shape == (16, 16, 3)
        assert np.abs(pixels.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_files_raise_what_is_caught(kind: str) -> None:
    """A file cut at any place, or with changed bytes, gives pixels or one of `UNREADABLE`, never another exception."""
    blob = encoded(picture(6, 80, 60), kind)
    generator = np.random.default_rng(0)
    refused = 0
    for length in range(0, len(blob) - 1, max(1, len(blob) // 60)):
        try:
            decode_for_evaluation(blob[:length], 16)
        except UNREADABLE:
            refused += 1
    assert refused > 50
    for _ in range(200):
        damaged = bytearray(blob)
        for place in generator.integers(len(blob), size=8):
            damaged[place] = generator.integers(256)
        try:
            assert decode_for_evaluation(bytes(damaged), 16).shape == (16, 16, 3)
        except UNREADABLE:
            refused += 1
