"""Mutated pictures through prediction and through the decoder of training: pixels, or an error that is promised."""

from __future__ import annotations

import random
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from attacks.packed_base import images
from PIL import Image
from support.pictures import encoded, picture

from biper.data.settings import DataRecipe
from biper.data.transforms import decode_for_evaluation, decode_for_training
from biper.errors import DataError
from biper.io.pictures import UNREADABLE
from biper.runtime.model import Model


@cache
def originals() -> tuple[bytes, ...]:
    """A picture in each format that users have, and an animated, a grey, a 16-bit and a transparent one."""
    plain = picture(3)
    grey16 = Image.fromarray(np.arange(0, 60_000, 25, dtype=np.uint16).reshape(40, 60))
    tagged = Image.Exif()
    tagged[0x112] = 6
    return (
        encoded(plain, "JPEG"),
        encoded(plain, "JPEG", progressive=True, exif=tagged),
        encoded(plain.convert("CMYK"), "JPEG"),
        encoded(plain, "PNG"),
        encoded(plain.convert("P"), "PNG"),
        encoded(grey16, "PNG"),
        encoded(plain.convert("RGBA"), "WEBP"),
        encoded(plain.convert("P"), "GIF", save_all=True, append_images=[picture(4).convert("P")]),
        encoded(plain, "TIFF"),
        encoded(plain, "TIFF", compression="tiff_lzw"),
        encoded(plain, "BMP"),
    )


def mutated(choice: random.Random) -> bytes:
    """A picture with changed bytes, most of them near the beginning, or cut, or with a part twice."""
    blob = bytearray(choice.choice(originals()))
    for _ in range(choice.choice((1, 2, 4, 16))):
        last = len(blob) if choice.random() < 0.5 else min(len(blob), 200)
        blob[choice.randrange(last)] = choice.choice((0, 1, 127, 128, 255, choice.randrange(256)))
    match choice.randrange(6):
        case 0:
            del blob[choice.randrange(1, len(blob)) :]
        case 1:
            place = choice.randrange(len(blob))
            blob[place:place] = blob[place : place + 50]
    return bytes(blob)


@pytest.mark.parametrize("count", [100, pytest.param(5_000, marks=pytest.mark.slow)])
def test_mutated_pictures_are_pixels_or_unreadable(count: int, tmp_path) -> None:
    model = Model.load(images().sealed())
    recipe = DataRecipe(name="images", batch_size=2, crop_scale=(0.1, 1.0), flip=True, colour_jitter=0.4)
    read = 0
    for seed in range(count):
        blob = mutated(random.Random(seed))
        (tmp_path / "p").write_bytes(blob)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd pictures, which the command line shows
            try:
                assert model.prepare(tmp_path / "p").shape == (4, 4, 3)
                assert len(model.predict([tmp_path / "p"])) == 1
                read += 1
            except DataError as error:
                assert "cannot read the image" in str(error)  # noqa: PT017  most are refused, some are read
            try:
                assert decode_for_evaluation(blob, 16).shape == (16, 16, 3)
                generator = torch.Generator().manual_seed(seed)
                assert decode_for_training(blob, 16, recipe, generator).shape == (16, 16, 3)
            except UNREADABLE:
                pass
    assert count / 10 < read < count
