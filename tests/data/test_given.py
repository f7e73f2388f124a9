from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import make_folder, picture
from support.signals import waves
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from biper.data import load_dataset
from biper.data.given import given_dataset
from biper.data.items import ItemImages, Items
from biper.data.settings import DataRecipe
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError

X, Y = waves(12)
SETTINGS = DataRecipe(name="given", batch_size=4)


class Listed(Dataset[Any]):
    """A data set of a list of (sample, label)."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Noisy(Listed):
    """Adds numbers from each of the global generators."""

    def __getitem__(self, index: int) -> Any:
        x, y = self.items[index]
        return x + torch.randn(()) + np.random.randn() + random.random(), y


def given(train: Any, test: Any = None, **options: Any) -> Any:
    settings: dict[str, Any] = {"classes": None, "normalization": None, "image_size": None, "workers": 0}
    settings |= {"unreadable": UnreadableImages(0), "count_outputs": lambda _: 3}
    return given_dataset(train, test, **settings | options)


SIGNALS = torch.from_numpy(X)
PAIRS = [(SIGNALS[place], int(Y[place])) for place in range(12)]


@pytest.mark.parametrize(
    "train",
    [
        (X, Y),
        (SIGNALS.double(), torch.from_numpy(Y).to(torch.int32)),
        [X.tolist(), Y.tolist()],
        TensorDataset(SIGNALS, torch.from_numpy(Y)),
        DataLoader(TensorDataset(SIGNALS, torch.from_numpy(Y)), batch_size=5, shuffle=True),
        Listed(PAIRS),
        DataLoader(Listed([(x.numpy(), np.int64(y)) for x, y in PAIRS]), num_workers=1),
        PAIRS,
    ],
    ids=["arrays", "tensors", "lists", "TensorDataset", "loader", "data set", "loader with a worker", "list of pairs"],
)
def test_signals_of_every_kind_are_the_same_data(train: Any) -> None:
    found = given(train, (X, Y))
    assert (found.spec.shape(), found.classes, found.spec.pixels) == ((2, 20), ("0", "1", "2"), False)
    assert (found.spec.mean, found.spec.std) == ((0, 0), (1, 1))  # numbers stay as they are
    for split in (found.train, found.test):
        images, labels = next(split.in_order())
        assert torch.equal(images, SIGNALS)
        assert torch.equal(labels, torch.from_numpy(Y))


PICTURES = [picture(seed, 9, 7) for seed in range(6)]
PIXELS = np.stack([np.asarray(image) for image in PICTURES])
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "train",
    [
        (PIXELS, LABELS),
        (torch.from_numpy(PIXELS).permute(0, 3, 1, 2), LABELS),
        Listed(list(zip(PICTURES, LABELS, strict=True))),
        Listed(list(zip(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), LABELS, strict=True))),
        Listed(list(zip(PIXELS, LABELS, strict=True))),
    ],
    ids=["arrays", "channels first", "pictures", "tensors", "items that are arrays"],
)
def test_pixels_of_every_kind_are_the_same_data(train: Any) -> None:
    found = given(train)
    assert (found.spec.shape(), found.spec.pixels, found.test) == ((3, 7, 9), True, None)
    assert torch.equal(next(found.train.in_order())[0], torch.from_numpy(PIXELS))
    assert found.spec.mean == pytest.approx(PIXELS.mean((0, 1, 2)) / 255)
    assert found.spec.std == pytest.approx(PIXELS.std((0, 1, 2)) / 255)
    assert given(train, normalization=([0.1] * 3, [0.2] * 3)).spec.std == (0.2, 0.2, 0.2)


def test_grey_pictures_have_one_channel() -> None:
    grey = [Image.fromarray(pixels[..., 0]) for pixels in PIXELS]
    for train in ((PIXELS[..., 0], LABELS), Listed(list(zip(grey, LABELS, strict=True)))):
        found = given(train)
        assert found.spec.shape() == (1, 7, 9)
        assert torch.equal(next(found.train.in_order())[0], torch.from_numpy(PIXELS[..., :1]))


def test_names_of_classes_come_from_the_data_or_the_caller() -> None:
    named = Listed(PAIRS)
    named.classes = ["p", "q", "r"]  # type: ignore[attr-defined]
    assert given(named).classes == given(DataLoader(named)).classes == ("p", "q", "r")
    assert given(named, classes=["a", "b", "c"]).classes == ("a", "b", "c")


def test_folders_and_data_sets_of_biper(tmp_path: Path) -> None:
    for name in ("train", "test"):
        make_folder(tmp_path / name, ("cat", "dog"), 2)
    whole = given(tmp_path, image_size=16)
    apart = given(tmp_path / "train", tmp_path / "test", image_size=16)
    for found in (whole, apart):
        assert (found.classes, found.spec.shape(16), len(found.train), len(found.test)) == (
            ("cat", "dog"),
            (3, 16, 16),
            4,
            4,
        )
    assert torch.equal(*(next(found.test.in_order())[0] for found in (whole, apart)))
    measured = given(str(tmp_path), image_size=16, normalization="train")
    pixels = next(measured.train.in_order())[0].double() / 255
    assert measured.spec.mean == pytest.approx(pixels.mean((0, 1, 2)).tolist())
    assert measured.spec.shape() == (3, 16, 16)
    digits = load_dataset("digits")
    assert given(digits).train is digits.train


def test_random_augmentation_depends_on_seed_stage_epoch_and_index_alone() -> None:
    noisy = Noisy(PAIRS)

    def batches(workers: int, key: tuple[int, int, int], first: int = 0) -> list[Tensor]:
        split = ItemImages(Items(noisy, "training"), workers=workers)
        return [images for images, _ in split.training_batches(SETTINGS, key, first)]

    whole = batches(0, (0, 1, 0))
    assert len(whole) == 3
    torch.manual_seed(99)
    random.seed(99)
    state = torch.get_rng_state()
    again = batches(0, (0, 1, 0), 1)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (again, batches(1, (0, 1, 0), 1)):
        assert all(torch.equal(a, b) for a, b in zip(whole[1:], other, strict=True))
    assert not torch.equal(batches(0, (0, 1, 1))[0], whole[0])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(PAIRS)


def replaced(place: int, item: Any) -> Listed:
    return Listed([*PAIRS[:place], item, *PAIRS[place + 1 :]])


NAN = X.copy()
NAN[4, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((X[:0], Y[:0]), "the training set is empty"),
        (Listed([]), "the training set is empty"),
        ((X, Y + 1), "label of training sample 2 is 3, expected one from 0 to 2"),
        ((X, Y - 1), "label of training sample 0 is -1, expected one from 0"),
        ((X, Y.astype(float)), "training labels are torch.float64"),
        ((X, Y[:3]), r"training labels are torch.int64 \(3,\), expected 12 integers"),
        ((X, np.eye(3)[Y]), r"training labels are torch.float64 \(12, 3\)"),
        ((NAN, Y), "training sample 4 has values that are NaN or infinite"),
        ((X[:, 0, 0], Y), r"training samples are torch.float32 \(12,\), expected pixels"),
        ((X.astype(complex), Y), "training samples are torch.complex128"),
        (([X[0], X[1, :, :5]], [0, 1]), "training samples are no array of numbers of one shape"),
        ((["a", "b"], [0, 1]), "training samples are no array of numbers of one shape"),
        (7, "training data are a int, expected a pair"),
        (Stream(), "training data are a Stream, expected a pair"),
        (DataLoader(Stream()), "training data are a Stream, expected a pair"),
        (DataLoader(Listed(PAIRS), collate_fn=list), "loader has a collate_fn of its own"),
        (
            DataLoader(Listed(PAIRS), sampler=WeightedRandomSampler([1.0] * 12, 12)),
            "a sampler of its own, WeightedRandom",
        ),
        (replaced(0, "x"), "training sample 0 is a str, expected a pair"),
        (replaced(0, (1, 2, 3)), "training sample 0 is 3 things, expected a pair"),
        (replaced(0, ("x", 1)), "training sample 0 is a str, expected a tensor"),
        (replaced(0, (torch.zeros(4), 1)), r"training sample 0 is torch.float32 \(4,\), expected an image"),
    ],
)
def test_data_that_cannot_be_used_are_one_line(train: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as found:
        given(train)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            (SIGNALS[0, :, :7], 0),
            r"training sample 5 is float32 \(2, 7\), others are float32 \(2, 20\): bring all samples",
        ),
        ((PIXELS[0], 0), r"training sample 5 is uint8 \(7, 9, 3\), others are float32"),
        ((SIGNALS[0] * torch.inf, 0), "training sample 5 has values that are NaN or infinite"),
        ((SIGNALS[0], 3), "training sample 5 has the label 3, expected one from 0 to 2"),
        ((SIGNALS[0], 0.5), "training sample 5 has the label 0.5, expected an integer"),
        ((SIGNALS[0], torch.eye(3)[0]), "training sample 5 has the label tensor"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_named_when_it_is_read(item: Any, message: str, workers: int) -> None:
    found = given(replaced(5, item), workers=workers)
    with pytest.raises(DataError, match=message):
        list(found.train.in_order())


def test_an_error_of_the_users_code_is_named_with_its_sample() -> None:
    class Broken(Listed):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index if index < 3 else index + 100)

    with pytest.raises(DataError, match="training sample 3 cannot be read: IndexError: list index out of range"):
        list(given(Broken(PAIRS)).train.in_order())


def test_test_data_must_resemble_the_training_data(tmp_path: Path) -> None:
    for test in ((X[:, :, :5], Y), (PIXELS, LABELS), Listed([(SIGNALS[0, :1], 0)])):
        with pytest.raises(DataError, match=r"the test samples are .*, those of training torch.float32 \(2, 20\)"):
            given((X, Y), test)
    with pytest.raises(DataError, match="the label of test sample 1 is 3"):
        given((X, Y), (X[:2], np.array([0, 3])))
    make_folder(tmp_path, ("a", "b"), 1)
    with pytest.raises(DataError, match=r"test=\.\.\. is a tuple, expected a folder"):
        given(tmp_path, (X, Y))
    with pytest.raises(DataError, match="a whole data set of biper"):
        given(load_dataset("digits"), (X, Y))


@pytest.mark.parametrize("normalization", ["mean", ([0.0], [1.0]), ([0, 0], [1, 0]), 3, ([0, 0], [1, float("nan")])])
def test_a_normalization_must_fit_the_channels(normalization: Any) -> None:
    with pytest.raises(DataError, match="normalization="):
        given((X, Y), normalization=normalization)
