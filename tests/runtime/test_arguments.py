"""Wrong arguments of a packed model: each is an error of biper that says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.programs import PLAIN, operation, program_of

from biper.errors import BiperError, DataError, ModelError
from biper.peers.engines import compare_engines
from biper.runtime import Model, load_pretrained
from biper.runtime.bench import bench
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
    ("expects a list of images, got one", lambda m: m.predict(b"content")),  # type: ignore[arg-type]
    ("expects a list of images or an array, got int", lambda m: m.predict(5)),  # type: ignore[arg-type]
    ("expects a list of images or an array, got generator", lambda m: m.predict(x for x in "ab")),  # type: ignore[arg-type]
    ("expects at least one image, got none", lambda m: m.predict(np.array(5))),
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
    with pytest.raises(DataError, match="NaN or infinity in image 1 of 3"):
        model(images)


@pytest.mark.skipif(not engine_is_built(), reason="needs the native engine")
@pytest.mark.parametrize(
    "options", [{"batch": 10**8}, {"batch": 10**30}, {"batch": 0}, {"batch": 1.5}, {"threads": 10**9}]
)
def test_a_call_that_cannot_be_timed_is_refused_before_anything_is_allocated(
    options: dict[str, int], model: Model
) -> None:
    (name,) = options
    with pytest.raises(ModelError, match=rf"{name}=\.\.\. expects "):
        bench(model.program, seconds=0.01, **options)
    with pytest.raises(ModelError, match=rf"{name}=\.\.\. expects "):
        compare_engines(model.program, [], seconds=0.01, **options)


def test_outputs_that_are_not_finite_are_no_classes() -> None:
    """Values that are finite, but so large that their sums are not."""
    weight = np.full((2, 3, 1, 1), 1e30, np.float32)
    layer = operation("convolution", "image", {"weight": weight}, real="y", attributes=PLAIN)
    images = np.zeros((2, 3, 1, 1), np.float32)
    images[1] = 1e30
    with pytest.raises(DataError, match="NaN or infinity in the outputs for image 1 of 2"):
        Model(program_of((3, 1, 1), [layer], "y")).predict(images)


def test_the_pixels_of_many_pictures_are_never_in_memory_at_once(model: Model, tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")
    prepared = [0]

    class Counting(Model):
        def prepare(self, image: str) -> np.ndarray:  # type: ignore[override]
            prepared[0] += 1
            return super().prepare(image)

        def _run(self, engine: object, images: np.ndarray, others: object) -> list[np.ndarray]:  # type: ignore[override]
            assert len(images) <= 64
            assert prepared[0] - len(images) == done[0]
            done[0] += len(images)
            return super()._run(engine, images, others)  # type: ignore[arg-type]

    done = [0]
    found = Counting(model.program).predict([str(tmp_path / "x.png")] * 150)
    assert (done[0] if engine_is_built() else 150, len(found)) == (150, 150)
