"""The preprocessing of a packed file: prediction computes what evaluation computes, on pictures of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.pictures import encoded, picture
from torch import nn

import biper
from biper.data import load_dataset
from biper.data.specs import dataset_spec
from biper.data.transforms import decode_for_evaluation, evaluation_preprocessing, normalize
from biper.errors import ModelError
from biper.io.preprocessing import Preprocessing, squeezed
from biper.runtime import Model

SPEC = dataset_spec("imagenet")


def packed(folder: Path, preprocessing: Preprocessing | None, size: int) -> tuple[nn.Module, Model]:
    """A tiny network for colour pictures, and the packed file of it with this preprocessing."""
    model = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7))
    example = torch.randn(2, 3, size, size)
    normalization = SPEC.mean, SPEC.std
    biper.export(model.eval(), folder / "m.biper", example, normalization=normalization, preprocessing=preprocessing)
    return model, Model.load(folder / "m.biper")


def check_prediction_equals_evaluation(folder: Path, data: Path, files: list[Path], size: int) -> None:
    model, program = packed(folder, evaluation_preprocessing(SPEC, size), size)
    split = load_dataset("imagenet", data, image_size=size, workers=0).split("train")
    evaluated = torch.cat([pixels for pixels, _ in split.in_order()])
    predicted = np.stack([program.prepare(file) for file in files])
    assert np.array_equal(predicted, evaluated.numpy())
    with torch.inference_mode():
        logits = model(normalize(evaluated, SPEC.mean, SPEC.std))
    np.testing.assert_allclose(program(predicted), logits.numpy(), atol=1e-5)
    names = [row[0].name for row in program.predict(predicted)]
    assert names == [str(label) for label in logits.argmax(1).tolist()]


def test_prediction_is_evaluation_on_photographs(imagenet_sample: Path, tmp_path: Path) -> None:
    files = sorted(path for path in imagenet_sample.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    assert len(files) == 100
    check_prediction_equals_evaluation(tmp_path, imagenet_sample, files, 64)


def odd_pictures() -> dict[str, bytes]:
    """Files of every kind of pixels that Pillow reads, of odd sizes, by their names."""
    colour, turned = picture(5, 157, 93), Image.Exif()
    turned[0x112] = 6
    shades = np.random.default_rng(0).integers(0, 65536, (61, 130)).astype(np.uint16)
    alpha = colour.convert("RGBA")
    alpha.putalpha(colour.convert("L"))
    see_through = colour.convert("P")
    see_through.info["transparency"] = 3
    return {
        "a-large.jpg": encoded(picture(6, 701, 515)),
        "b-thin.png": encoded(picture(7, 20, 333), "PNG"),
        "c-grey.png": encoded(colour.convert("L"), "PNG"),
        "d-palette.png": encoded(colour.convert("P"), "PNG"),
        "e-transparent-palette.png": encoded(see_through, "PNG", transparency=3),
        "f-alpha.png": encoded(alpha, "PNG"),
        "g-grey-alpha.png": encoded(alpha.convert("LA"), "PNG"),
        "h-cmyk.jpg": encoded(colour.convert("CMYK")),
        "i-16-bit.png": encoded(Image.fromarray(shades), "PNG"),
        "j-one-bit.bmp": encoded(colour.convert("1"), "BMP"),
        "k-turned.jpg": encoded(picture(8, 640, 417), exif=turned),
        "l-turned.png": encoded(colour, "PNG", exif=turned),
        "m-one-pixel.png": encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"),
        "n-colours.webp": encoded(colour, "WEBP", lossless=True),
    }


def test_prediction_is_evaluation_on_pictures_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "data" / "one").mkdir(parents=True)
    files = []
    for name, content in odd_pictures().items():
        files.append(tmp_path / "data" / "one" / name)
        files[-1].write_bytes(content)
    check_prediction_equals_evaluation(tmp_path, tmp_path / "data", files, 56)


def test_an_opened_picture_gives_the_pixels_of_its_file_and_stays_as_it_is(tmp_path: Path) -> None:
    way = Preprocessing((40, 40), resize=47)
    for name, content in odd_pictures().items():
        (tmp_path / name).write_bytes(content)
        opened = Image.open(tmp_path / name)
        size, mode = opened.size, opened.mode
        assert np.array_equal(way.pixels(opened), way.read(tmp_path / name)), name
        assert (opened.size, opened.mode) == (size, mode)


def test_a_file_of_an_imported_or_trained_model_has_the_evaluation_of_its_data_set(tmp_path: Path) -> None:
    for name, size, resize in (("imagenet", 224, 256), ("tiny-imagenet", 64, 64), ("cifar10", 32, 32)):
        way = evaluation_preprocessing(dataset_spec(name), size)
        assert way == Preprocessing((size, size), resize=resize, draft_margin=2)
    assert evaluation_preprocessing(dataset_spec("digits"), 8) == Preprocessing((8, 8), 8, channels="L", draft_margin=2)
    from biper.models.saved import ModelInfo, save_model
    from biper.targets.packed.saved import export_saved

    info = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.3,), (0.4,), ())
    save_model(tmp_path / "model.safetensors", info.create(), info)
    export_saved(tmp_path / "model.safetensors", tmp_path / "m.biper")
    model = Model.load(tmp_path / "m.biper")
    assert model.program.preprocessing == Preprocessing((8, 8), 8, channels="L", draft_margin=2)
    assert (model.program.mean, model.program.std) == ((0.3,), (0.4,))


@given(st.integers(1, 700), st.integers(1, 700), st.integers(8, 80), st.integers(0, 40))
def test_one_pass_is_resizing_and_cutting_one_after_the_other(width: int, height: int, size: int, more: int) -> None:
    image, resize = picture(1, width, height), size + more
    short = min(width, height)
    resized = image.resize((resize * width // short, resize * height // short), Image.Resampling.BILINEAR)
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    expected = np.asarray(resized.crop((left, top, left + size, top + size))).astype(int)
    # Each result is rounded after each direction, and which is first depends on the shape. Both are within 1 of the
    # exact value, because an average keeps the first rounding below 1/2, and so within 2 of each other.
    assert np.abs(Preprocessing((size, size), resize=resize).pixels(image) - expected).max() <= 2


def test_the_settings_do_what_they_say() -> None:
    colour = picture(3, 50, 40)
    whole = np.asarray(colour.resize((30, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(Preprocessing((20, 30), interpolation="bicubic").pixels(colour), whole)
    assert np.array_equal(squeezed((3, 40, 50)).pixels(colour), np.asarray(colour))
    assert np.array_equal(Preprocessing((40, 50), channels="BGR").pixels(colour), np.asarray(colour)[..., ::-1])
    cut = Preprocessing((20, 20), resize=(40, 50)).pixels(colour)
    assert np.array_equal(cut, np.asarray(colour)[10:30, 15:35])
    clear = Image.new("RGBA", (3, 3), (0, 0, 0, 0))
    assert np.unique(Preprocessing((3, 3), background=(7, 7, 7)).pixels(clear)).tolist() == [7]
    twelve = Image.fromarray(np.full((2, 2), 4095, np.uint16))
    assert Preprocessing((2, 2), channels="L", white=4095).pixels(twelve).shape == (2, 2, 1)
    assert Preprocessing((2, 2), channels="L", white=4095).pixels(twelve).min() == 255
    turned = Image.Exif()
    turned[0x112] = 6
    blob = encoded(colour, "PNG", exif=turned)
    assert np.array_equal(Preprocessing((40, 50), exif_orientation=False).read(blob), np.asarray(colour))
    large = encoded(picture(9, 800, 600))
    assert np.array_equal(
        Preprocessing((32, 32), 36, draft_margin=2).read(large), decode_for_evaluation(large, 32, 8 / 9)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 4)}, r"expected size=\(height, width\)"),
        ({"size": (4,)}, r"expected size=\(height, width\)"),
        ({"size": (4, 4), "resize": 2.5}, r"expected size=\(height, width\)"),
        ({"size": (8, 8), "resize": 7}, r"resize=7 is too small to cut out size=\(8, 8\)"),
        ({"size": (8, 8), "resize": (8, 7)}, "is too small"),
        ({"size": (8, 8), "interpolation": "bilinar"}, "interpolation='bilinar' is not known; did you mean 'bilinear'"),
        ({"size": (8, 8), "channels": "RGBA"}, "channels='RGBA' is not known"),
        ({"size": (8, 8), "background": (1, 2, 300)}, "is no colour: expected 3 integers"),
        ({"size": (8, 8), "white": 0}, "is no positive number"),
        ({"size": (8, 8), "draft_margin": -1}, "is no integer from 0 to 64"),
    ],
)
def test_what_cannot_be_done_is_an_error_of_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Preprocessing(**settings)
    assert "\n" not in str(caught.value)
