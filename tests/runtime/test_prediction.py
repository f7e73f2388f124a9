"""What a packed model predicts: classes, one probability, or a map; and how its file says what to do with pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.programs import PLAIN, operation, program_of
from torch import nn
from typer.testing import CliRunner

import biper
from biper.cli.app import app
from biper.errors import DataError, ExportError, ModelFormatError
from biper.io.preprocessing import Preprocessing
from biper.runtime import Model, PredictedMap
from biper.runtime.maps import class_colour
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program

NORMALIZATION = [0.0] * 3, [1.0] * 3


def program_to(outputs: int, places: int) -> Program:
    """A program from images (3, places, places) to maps (outputs, places, places), by a 1x1 convolution."""
    weight = np.random.default_rng(0).standard_normal((outputs, 3, 1, 1)).astype(np.float32)
    conv = operation("convolution", "image", {"weight": weight}, real="y", attributes=PLAIN)
    return program_of((3, places, places), [conv], "y")


def images(count: int, places: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, places, places)).astype(np.float32)


def test_one_output_is_a_probability() -> None:
    model = Model(program_to(1, 1))
    array = images(5, 1) * 20
    expected = 1 / (1 + np.exp(-model(array).astype(np.float64)))
    rows = model.predict(array, top_k=3)
    assert [len(row) for row in rows] == [1] * 5
    assert [row[0].name for row in rows] == ["positive"] * 5
    np.testing.assert_allclose([row[0].probability for row in rows], expected[:, 0], rtol=1e-5)
    assert Model(replace(program_to(1, 1), classes=("cat",))).predict(array)[0][0].name == "cat"


def test_several_outputs_share_one() -> None:
    rows = Model(program_to(4, 1)).predict(images(2, 1), top_k=4)
    assert [sum(answer.probability for answer in row) for row in rows] == pytest.approx([1, 1])


def test_a_map_is_no_class_and_classes_are_no_map() -> None:
    with pytest.raises(DataError, match=r"shape \(4, 6, 6\) for each image, not classes: call predict_maps\(images\)"):
        Model(program_to(4, 6)).predict(images(1, 6))
    with pytest.raises(DataError, match=r"no map: call predict\(images\)"):
        Model(program_to(4, 1)).predict_maps(images(1, 1))


def test_a_map_of_several_channels_has_a_class_for_each_place(tmp_path: Path) -> None:
    model = Model(replace(program_to(3, 6), classes=("a", "b", "c")))
    array = images(2, 6)
    found = model.predict_maps(array)
    assert np.array_equal(np.stack([part.values for part in found]), model(array))
    assert np.array_equal(found[1].labels, model(array)[1].argmax(0))
    np.testing.assert_allclose(found[0].probabilities.sum(0), 1, rtol=1e-6)
    assert list(found[0].shares) == ["a", "b", "c"]
    assert sum(found[0].shares.values()) == pytest.approx(1)
    found[0].save(tmp_path / "new" / "map.png")
    image = Image.open(tmp_path / "new" / "map.png")
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), found[0].labels)
    colours = np.array([class_colour(label) for label in found[0].labels.reshape(-1)])
    assert np.array_equal(np.asarray(image.convert("RGB")).reshape(-1, 3), colours)
    with pytest.raises(DataError, match=r"ends with \.png, got .*map\.jpg"):
        found[0].save(tmp_path / "map.jpg")
    with pytest.raises(DataError, match="up to 256 classes, this map has 300"):
        PredictedMap(np.zeros((300, 2, 2), np.float32), tuple(map(str, range(300)))).picture()


def test_a_map_of_one_channel_is_grey() -> None:
    model = Model(program_to(1, 6))
    (found,) = model.predict_maps(images(1, 6) * 50)
    expected = 1 / (1 + np.exp(-found.values[0].astype(np.float64)))
    image = found.picture()
    assert image.mode == "L"
    assert np.abs(np.asarray(image) - 255 * expected).max() <= 0.5001
    assert np.array_equal(found.labels, expected >= 0.5)
    assert found.shares == {"positive": pytest.approx((expected >= 0.5).mean())}


def test_the_first_colours_differ_and_begin_with_black() -> None:
    assert [class_colour(number) for number in range(4)] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert len({class_colour(number) for number in range(256)}) == 256


def test_preprocessing_is_written_and_read() -> None:
    plain = program_to(2, 6)
    assert b"biper program 1" in write_program(plain)
    way = Preprocessing((6, 6), (7, 9), "lanczos", "BGR", (1, 2, 3), 4095.0, False, 3)
    for preprocessing in (way, Preprocessing((6, 6)), Preprocessing((6, 6), resize=8)):
        blob = write_program(replace(plain, preprocessing=preprocessing))
        assert b"biper program 2" in blob
        assert read_program(blob).preprocessing == preprocessing
    assert read_program(write_program(plain)).preprocessing is None


@pytest.mark.parametrize(
    "change",
    [
        {"size": [6]},
        {"size": [6, 7]},
        {"size": "6x6"},
        {"size": [True, 6]},
        {"resize": 5},
        {"resize": 1 << 40},
        {"resize": None},
        {"resize": [7, 6, 5]},
        {"interpolation": "magic"},
        {"interpolation": ["bilinear"]},
        {"channels": "L"},
        {"channels": {}},
        {"background": [0, 0, 256]},
        {"white": -1},
        {"white": "1"},
        {"white": 1e31},
        {"exif_orientation": 1},
        {"draft_margin": 1e9},
        {"draft_margin": False},
        {"more": 1},
    ],
)
def test_hostile_preprocessing_is_refused(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entries = Preprocessing((6, 6)).to_json() | change
    monkeypatch.setattr(Preprocessing, "to_json", lambda _: entries)
    blob = write_program(replace(program_to(2, 6), preprocessing=Preprocessing((6, 6))))
    with pytest.raises(ModelFormatError) as caught:
        read_program(blob)
    assert "\n" not in str(caught.value)


def test_preprocessing_that_is_no_object_or_lacks_an_entry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    program = replace(program_to(2, 6), preprocessing=Preprocessing((6, 6)))
    entries = Preprocessing((6, 6)).to_json()
    del entries["white"]
    for given in (entries, [], "x", 3, None):
        monkeypatch.setattr(Preprocessing, "to_json", lambda _, given=given: given)
        with pytest.raises(ModelFormatError, match="preprocessing"):
            read_program(write_program(program))


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def test_an_export_without_normalization_warns(tmp_path: Path) -> None:
    example = torch.randn(2, 3, 8, 8)
    with pytest.warns(UserWarning, match=r"no normalization: predict will give .* pixels scaled to 0 to 1") as caught:
        biper.export(small_network(), tmp_path / "m.biper", example)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)
    pixels = np.full((1, 8, 8, 3), 51, np.uint8)
    model = Model.load(tmp_path / "m.biper")
    floats = np.full((1, 3, 8, 8), 0.2, np.float32)
    np.testing.assert_allclose(model(pixels), model(floats), atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_an_export_with_normalization_or_of_signals_is_quiet(tmp_path: Path) -> None:
    biper.export(small_network(), tmp_path / "m.biper", torch.randn(2, 3, 8, 8), normalization=NORMALIZATION)
    signal = nn.Sequential(nn.Conv1d(3, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    biper.export(signal, tmp_path / "s.biper", torch.randn(2, 3, 20))


def test_preprocessing_of_another_size_is_refused(tmp_path: Path) -> None:
    for way in (Preprocessing((9, 8)), Preprocessing((8, 8), channels="L")):
        with pytest.raises(ExportError, match=r"preprocessing makes images of \(.*\), the model takes \(3, 8, 8\)"):
            biper.export(
                small_network(),
                tmp_path / "m.biper",
                torch.randn(2, 3, 8, 8),
                normalization=NORMALIZATION,
                preprocessing=way,
            )


def test_the_command_writes_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.biper").write_bytes(write_program(replace(program_to(3, 6), classes=("a", "b", "c"))))
    Path("c.biper").write_bytes(write_program(program_to(1, 1)))
    for name in ("x.png", "y.png"):
        Image.effect_noise((9, 7), 90).convert("RGB").save(name)
    (found,) = Model.load("m.biper").predict_maps(["x.png"])

    def predict(*arguments: str) -> str:
        return CliRunner().invoke(app, ["predict", *arguments], catch_exceptions=False).stdout

    assert "x.png: 6 x 6 map, " in predict("m.biper", "x.png", "--out", "map.png")
    assert np.array_equal(np.asarray(Image.open("map.png")), found.labels)
    rows = json.loads(predict("m.biper", "x.png", "y.png", "--out", "maps", "--json"))
    assert rows[0] == {"image": "x.png", "map": "maps/x.png", "height": 6, "width": 6, "shares": found.shares}
    assert [row["image"] for row in rows] == ["x.png", "y.png"]
    assert Path("maps/y.png").exists()
    np.save("two.npy", np.zeros((2, 6, 6, 3), np.uint8))
    predict("m.biper", "two.npy", "--out", "of_array")
    assert sorted(path.name for path in Path("of_array").iterdir()) == ["two[0].png", "two[1].png"]
    assert "x.png: positive " in predict("c.biper", "x.png")
    for line, message in (
        (["c.biper", "x.png", "--out", "map.png"], r"out=\.\.\. is for a model that gives maps; c\.biper names the"),
        (["m.biper", "x.png", "--out", "map.jpg"], r"expected a name that ends with \.png, got map\.jpg"),
        (["m.biper", "x.png", "./x.png", "--out", "maps"], r"x\.png and \./x\.png would have the same map"),
        (["m.biper", "x.png", "--out", "x.png"], r"x\.png is a picture that is read, and would be lost"),
        (["m.biper", "x.png", "y.png", "--out", "."], r"x\.png is a picture that is read, and would be lost"),
    ):
        before = Path("x.png").read_bytes()
        with pytest.raises(DataError, match=message):
            predict(*line)
        assert Path("x.png").read_bytes() == before
