"""Wrong arguments of a packed model: each is an error of biper that says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biper.errors import BiperError, DataError
from biper.runtime import Model, load_pretrained
from biper.runtime.engine import engine_is_built
from biper.runtime.program import write_program

PIXELS = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_pretrained("cifar10-resnet20")


WRONG: list[tuple[str, Callable[[Model], object]]] = [
    ("expected the path of a packed model, or its bytes, got bytearray", lambda _: Model.load(bytearray(b"x"))),
    ("or its bytes, got memoryview", lambda m: Model.load(memoryview(write_program(m.program)))),  # type: ignore[arg-type]
    ("or its bytes, got int", lambda _: Model.load(5)),  # type: ignore[arg-type]
    ("or its bytes, got NoneType", lambda _: Model.load(None)),  # type: ignore[arg-type]
    ("expects at least one image, got none", lambda m: m.predict([])),
    ("expects at least one image, got none", lambda m: m.predict(PIXELS[:0])),
    ("expects a list of images, got one: write ", lambda m: m.predict("picture.png")),
    ("expects a list of images, got one", lambda m: m.predict(Path("picture.png"))),  # type: ignore[arg-type]
    ("expects a list of images, got one", lambda m: m.predict(Image.new("RGB", (32, 32)))),  # type: ignore[arg-type]
    ("path of an image or a Pillow image, got int", lambda m: m.predict([5])),  # type: ignore[list-item]
    (r"top_k=\.\.\. expects a positive integer, got 0", lambda m: m.predict(PIXELS, 0)),
    (r"top_k=\.\.\. expects a positive integer, got -1", lambda m: m.predict(PIXELS, -1)),
    (r"top_k=\.\.\. expects a positive integer, got 1.5", lambda m: m.predict(PIXELS, 1.5)),  # type: ignore[arg-type]
    ("an array of images of one shape", lambda m: m([[1, 2], [3]])),  # type: ignore[arg-type]
    ("the model expects uint8 images", lambda m: m("text")),  # type: ignore[arg-type]
    ("the model expects uint8 images", lambda m: m(PIXELS[0])),
    ("the model expects uint8 images", lambda m: m(PIXELS.astype(np.int64))),
    ("the model expects uint8 images", lambda m: m(PIXELS.astype(object))),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=map(str, range(len(WRONG))))
def test_a_wrong_argument_is_one_line(message: str, call: Callable[[Model], object], model: Model) -> None:
    with pytest.raises(BiperError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not engine_is_built(), reason="needs the native engine")
def test_profiling_needs_a_number_of_rounds(model: Model) -> None:
    with pytest.raises(BiperError, match=r"rounds=\.\.\. expects a positive integer, got 0"):
        model.profile(0)
    assert len(model.profile(np.int64(1))) == len(model.program.operations)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_an_image_that_is_not_finite_is_named(value: float, model: Model) -> None:
    images = np.zeros((3, 3, 32, 32))
    images[1, 2, 3, 4] = value
    with np.errstate(over="ignore"), pytest.raises(DataError, match="NaN or infinity in image 1 of 3"):
        model(images)
