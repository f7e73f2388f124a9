from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import encoded, make_folder, picture

from biper import load_dataset
from biper.data.batches import TrainingBatches
from biper.data.dataset import Dataset, Images
from biper.data.settings import DataRecipe
from biper.data.transforms import decode_for_evaluation
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError

SIZE = 16
ANIMALS = ("ant", "bee", "cat")


def load(root: Path, **options: Any) -> Dataset:
    return load_dataset("imagenet", root, **{"image_size": SIZE, "workers": 0, **options})


def everything(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = zip(*images.in_order(3), strict=True)
    return torch.cat(pixels), torch.cat(labels)


def training(images: Images, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    recipe = DataRecipe(name="imagenet", batch_size=4, crop_scale=(0.08, 1.0), flip=True)
    return list(images.training_batches(recipe, (0, 1, epoch)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "data" / "train", ANIMALS, 4)
    make_folder(tmp_path / "data" / "val", ANIMALS, 2, seed=500)
    return tmp_path / "data"


def test_classes_are_the_sorted_folders_and_every_image_is_there_once(folder: Path) -> None:
    data = load(folder)
    assert data.classes == ANIMALS
    assert (len(data.train), len(data.test)) == (12, 6)
    pixels, labels = everything(data.test)
    assert pixels.shape == (6, SIZE, SIZE, 3)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    files = sorted((folder / "val").rglob("*.JPEG"))
    for file, image in zip(files, pixels, strict=True):
        assert np.array_equal(image.numpy(), decode_for_evaluation(file.read_bytes(), SIZE))


def test_other_files_and_hidden_ones_are_no_images_and_deeper_folders_are_searched(folder: Path) -> None:
    before = everything(load(folder).train)[1].bincount().tolist()
    (folder / "train" / "notes.txt").write_text("not a class")
    (folder / "train" / "bee" / "notes.txt").write_text("not a picture")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "bee" / "._0.JPEG").write_bytes(b"resource fork")
    (folder / "train" / "bee" / "more" / "deep").mkdir(parents=True)
    (folder / "train" / "bee" / "more" / "deep" / "x.png").write_bytes(encoded(picture(9), "PNG"))
    after = everything(load(folder).train)[1].bincount().tolist()
    assert after == [before[0], before[1] + 1, before[2]]


def test_class_folders_alone_are_training_images(folder: Path) -> None:
    data = load(folder / "train")
    assert len(data.train) == 12
    with pytest.raises(DataError, match="no test images: expected train/ and val/"):
        data.split("test")


def test_validation_labels_are_those_of_the_training_classes(folder: Path) -> None:
    shutil.rmtree(folder / "val" / "ant")
    assert everything(load(folder).test)[1].tolist() == [1, 1, 2, 2]


def test_labels_can_be_those_of_a_trained_model(folder: Path) -> None:
    """Folders are matched by name, in any order; if the classes of the model are numbers, by position."""
    data = load(folder, classes=("cat", "dog", "bee", "ant"))
    assert data.classes == ("cat", "dog", "bee", "ant")
    assert everything(data.test)[1].tolist() == [3, 3, 2, 2, 0, 0]
    numbered = load(folder, classes=("0", "1", "2"))
    assert everything(numbered.test)[1].tolist() == [0, 0, 1, 1, 2, 2]
    assert numbered.classes == ANIMALS
    with pytest.raises(DataError, match=r"train/ant is none of the 4 classes \(0, 1, 2, \.\.\.\)"):
        load(folder, classes=("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train" / "ape").mkdir(), r"train/ape holds no picture \(\.jpg, "),
        (lambda root: (root / "val" / "dog").mkdir(), r"val/dog holds no picture"),
        (lambda root: make_folder(root / "val", ("dog",), 1), r"val/dog is none of the 3 classes \(ant, bee, cat"),
        (lambda root: shutil.rmtree(root / "train") or (root / "train").mkdir(), r"train holds no class folders"),
        (lambda root: shutil.rmtree(root), r"no folder .*data: data_dir=... expects one that holds train/ and val/"),
    ],
    ids=["empty class", "empty validation class", "unknown class", "no classes", "no folder"],
)
def test_what_is_missing_is_named(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_is_needed() -> None:
    with pytest.raises(DataError, match=r"does not download imagenet: give its folder with data_dir=\.\.\."):
        load_dataset("imagenet")


def spoil_three(folder: Path) -> dict[str, str]:
    """Replace three training images by a truncated JPEG, a text and an empty file; return their names and reasons."""
    whole = (folder / "train" / "ant" / "1.JPEG").read_bytes()
    contents = {"ant/1.JPEG": whole[: len(whole) // 2], "bee/0.JPEG": b"this is no picture\n" * 9, "cat/3.JPEG": b""}
    for name, content in contents.items():
        (folder / "train" / name).write_bytes(content)
    reasons = ("runcated", "no picture of a format that Pillow reads", "no picture of a format that Pillow reads")
    return dict(zip((str(folder / "train" / name) for name in contents), reasons, strict=True))


def test_unreadable_images_are_counted_named_and_listed_and_the_run_goes_on(folder: Path, tmp_path: Path) -> None:
    expected = spoil_three(folder)
    told: list[str] = []
    file = tmp_path / "unreadable.txt"
    data = load(folder, unreadable=UnreadableImages(3, file, told.append))
    _, labels = everything(data.train)
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for epoch in range(3):
        batches = training(data.train, epoch=epoch)
        assert [len(labels) for _, labels in batches] == [4, 4, 4], "another image stands in"
        assert all(len(images) == 4 for images, _ in batches)
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    assert [name for name, _ in rows] == list(expected)
    assert all(reason in why for (_, why), reason in zip(rows, expected.values(), strict=True))
    assert len(told) == 3
    assert told[1].startswith(f"unreadable image 2 (at most 3 are left out): {rows[1][0]}: no picture of")


def test_too_many_unreadable_images_stop_the_run_and_a_resumed_one_counts_on(folder: Path, tmp_path: Path) -> None:
    last = list(spoil_three(folder))[-1]
    file = tmp_path / "unreadable.txt"
    with pytest.raises(DataError, match=f"more than 2 images cannot be read, the last one {last}: .* listed in {file}"):
        everything(load(folder, unreadable=UnreadableImages(2, file, print)).train)
    file.write_text(file.read_text() + "half a li")
    again = UnreadableImages(3, file, print)
    assert len(again.names) == 3
    everything(load(folder, unreadable=again).train)
    again.limit = 2
    with pytest.raises(DataError, match="more than 2 images"):
        again.add("a fourth", "some\nreason")
    assert file.read_text().splitlines()[3:] == ["a fourth\tsome reason"]


def test_without_a_run_each_unreadable_image_is_a_warning(folder: Path) -> None:
    spoil_three(folder)
    data = load(folder)
    with pytest.warns(UserWarning, match=r"unreadable image \d \(at most 100") as caught:
        everything(data.train)
    assert len(caught) == 3


def test_a_batch_of_nothing_readable_stops(folder: Path) -> None:
    for file in (folder / "train").rglob("*.JPEG"):
        file.write_bytes(b"")
    data = load(folder, unreadable=UnreadableImages(100, None, print))
    with pytest.raises(DataError, match=r"no image of a batch of 4 can be read, such as .*JPEG"):
        training(data.train)
    assert list(data.train.in_order()) == []


def test_held_out_images_are_never_trained_on(tmp_path: Path) -> None:
    """This holds for replacements of unreadable images too. Each class has one image, so labels identify images."""
    root = make_folder(tmp_path, tuple(f"{number:02d}" for number in range(40)), 1)
    for number in range(0, 40, 3):
        (root / f"{number:02d}" / "0.JPEG").write_bytes(b"")
    data = load(root, unreadable=UnreadableImages(100, None, lambda _text: None))
    kept, held_out = data.hold_out()
    assert (len(kept), len(held_out)) == (36, 4)
    seen = {label for epoch in range(3) for _, labels in training(kept, epoch=epoch) for label in labels.tolist()}
    tested = set(everything(held_out)[1].tolist())
    assert tested
    assert not seen & tested
    assert seen | tested == {number for number in range(40) if number % 3}


def test_augmentation_of_the_other_kind_is_refused(folder: Path) -> None:
    data = load(folder)
    recipe = DataRecipe(name="imagenet", batch_size=4, crop_padding=4)
    with pytest.raises(DataError, match=r"data\.crop_padding is for images in memory; for imagenet"):
        TrainingBatches(data.train, data.spec, recipe, seed=0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The form in which Tiny ImageNet is distributed: train/CLASS/images/, and val/images/ with val_annotations.txt."""
    root = tmp_path / "tiny-imagenet-200"
    for place, name in enumerate(("n01", "n02")):
        (root / "train" / name / "images").mkdir(parents=True)
        (root / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t63\t63\n")
        for number in range(5):
            blob = encoded(picture(10 * place + number, 64, 64), quality=90)
            (root / "train" / name / "images" / f"{name}_{number}.JPEG").write_bytes(blob)
    (root / "val" / "images").mkdir(parents=True)
    rows = []
    for number, name in enumerate(("n02", "n01", "n02")):
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(encoded(picture(90 + number, 64, 64), quality=90))
        rows.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    (root / "test" / "images").mkdir(parents=True)
    return root


def test_tiny_imagenet_is_read_into_memory_pixel_by_pixel(tiny: Path) -> None:
    data = load_dataset("tiny-imagenet", tiny, workers=1)
    assert data.classes == ("n01", "n02")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.test.labels.tolist() == [1, 0, 1]
    file = Image.open(tiny / "val" / "images" / "val_1.JPEG")
    assert np.array_equal(data.test.images[1].numpy(), np.asarray(file))


def test_a_broken_annotation_is_named(tiny: Path) -> None:
    with open(tiny / "val" / "val_annotations.txt", "a") as file:
        file.write("val_3.JPEG\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt is corrupt: line 4 should be a file, a tab, a class"):
        load_dataset("tiny-imagenet", tiny)
