from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pictures import encoded, make_tar, picture

from biper import load_dataset
from biper.data import tar_shards
from biper.data.dataset import Dataset
from biper.data.tar_shards import TarImages, expand_braces
from biper.data.transforms import decode_for_evaluation, seeded_generator
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError

SIZE = 16
BLOBS = [encoded(picture(number)) for number in range(12)]


def members(numbers: range, labels: int = 3) -> dict[str, bytes]:
    """The members of a WebDataset shard; each group has a third member, which is to be ignored."""
    parts: dict[str, bytes] = {}
    for number in numbers:
        parts |= {
            f"n{number:03d}.jpg": BLOBS[number],
            f"n{number:03d}.cls": f"{number % labels}\n".encode(),
            f"n{number:03d}.json": b"{}",
        }
    return parts


def load(path: Path | str, unreadable: list[str] | None = None, limit: int = 100, **options: Any) -> Dataset:
    """``unreadable`` collects the reports of unreadable images; without it there must not be any."""
    told = UnreadableImages(limit if unreadable is not None else 0, None, (unreadable or []).append)
    if unreadable is not None:
        told.report = unreadable.append
    return load_dataset("imagenet", path, **{"image_size": SIZE, "workers": 0, "unreadable": told, **options})


def labels_of(data: Dataset, split: str = "train") -> list[int]:
    return [label for _, labels in data.split(split).in_order() for label in labels.tolist()]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number, numbers in enumerate((range(5), range(5, 8))):
        make_tar(tmp_path / "data" / f"set-train-{number:04d}.tar", members(numbers))
    make_tar(tmp_path / "data" / "set-validation-00.tar", members(range(8, 12)))
    return tmp_path / "data"


@pytest.mark.parametrize("workers", [0, 2])
def test_every_picture_of_the_shards_is_there_once_in_order(shards: Path, workers: int) -> None:
    data = load(shards, workers=workers)
    assert data.classes == ("0", "1", "2")
    pixels, labels = next(data.train.in_order())
    assert labels.tolist() == [number % 3 for number in range(8)]
    for blob, image in zip(BLOBS, pixels, strict=False):
        assert np.array_equal(image.numpy(), decode_for_evaluation(blob, SIZE))
    assert labels_of(data, "test") == [2, 0, 1, 2]


def test_shards_are_found_by_braces_by_folder_and_alone(shards: Path) -> None:
    together = shards / "set-{train-{0000..0001},validation-{00..00}}.tar"
    for place in (together, shards):
        data = load(place)
        assert (len(data.train), len(data.test)) == (8, 4)
    assert len(load(shards / "set-train-0001.tar").train) == 3
    for name, folder in (("set-train-*.tar", "train"), ("set-validation-*.tar", "val")):
        (shards / folder).mkdir()
        for path in sorted(shards.glob(name)):
            path.rename(shards / folder / path.name.replace("train", "").replace("validation", ""))
    data = load(shards)
    assert (len(data.train), len(data.test)) == (8, 4)
    with pytest.raises(DataError, match=r"1 of 3 shards are missing, the first is .*set--0002\.tar"):
        load(shards / "train" / "set--{0000..0002}.tar")
    only_validation = load(shards / "val")
    assert len(only_validation.test) == 4
    with pytest.raises(DataError, match="no train images"):
        only_validation.split("train")


def test_braces() -> None:
    assert expand_braces("plain.tar") == ["plain.tar"]
    assert expand_braces("a{08..11}b") == ["a08b", "a09b", "a10b", "a11b"]
    assert expand_braces("{x,y{1..2}}/{z}.tar") == ["x/z.tar", "y1/z.tar", "y2/z.tar"]
    with pytest.raises(DataError, match="not closed"):
        expand_braces("a{0..1")
    with pytest.raises(DataError, match="is empty"):
        expand_braces("a{5..1}")


def test_names_beside_the_shards_are_the_classes_and_bound_the_labels(shards: Path) -> None:
    (shards / "classes.txt").write_text("ant\nbee\n")
    told: list[str] = []
    data = load(shards, told)
    assert data.classes == ("ant", "bee")
    assert labels_of(data) == [0, 1, 0, 1, 0, 1]
    assert len(told) == 4
    assert "set-train-0000.tar: n002: its label is 2, expected 0 to 1" in told[0]
    assert load(shards, classes=("x", "y", "z")).classes == ("x", "y", "z")


def test_groups_that_are_not_whole_are_named_and_left_out(tmp_path: Path) -> None:
    parts = members(range(6))
    del parts["n000.cls"], parts["n001.jpg"]
    parts["n002.cls"] = b"two"
    parts["n003.cls"] = b"-1"
    path = make_tar(tmp_path / "a.tar", parts)
    told: list[str] = []
    assert labels_of(load(path, told)) == [1, 2]
    reasons = (
        "n000: there is no n000.cls beside it",
        "n002: n002.cls holds b'two', expected a class number",
        "n003: n003.cls holds b'-1', expected a class number",
        "n001: there is no picture (jpg, jpeg, png, webp) beside n001.cls",
    )
    assert len(told) == len(reasons)
    for line, reason in zip(told, reasons, strict=True):
        assert line.endswith(f"{path}: {reason}")
    with pytest.raises(DataError, match=r"more than 2 images cannot be read, the last one .*n003: n003.cls holds"):
        load(path, [], limit=2)


def test_a_shard_cut_anywhere_gives_the_pictures_that_are_whole(tmp_path: Path) -> None:
    """Wherever it is cut, the pictures found are right and the cut is reported once, or no picture is an error."""
    blob = make_tar(tmp_path / "whole.tar", members(range(5))).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [member.offset_data + member.size for member in tar if member.name.endswith(".cls")]
        end_of_archive = tar.offset
    path = tmp_path / "cut.tar"
    for length in [*range(0, end_of_archive, 331), *range(0, end_of_archive, 512)]:
        path.write_bytes(blob[:length])
        told: list[str] = []
        whole = sum(length >= end_of_group for end_of_group in ends)
        if whole == 0:
            with pytest.raises(DataError, match="no picture with a label in 1 shards"):
                load(path, told)
        else:
            pixels, labels = next(load(path, told).train.in_order())
            count = len(labels)
            assert count == whole
            assert labels.tolist() == [number % 3 for number in range(count)]
            for picture_blob, image in zip(BLOBS, pixels, strict=False):
                assert np.array_equal(image.numpy(), decode_for_evaluation(picture_blob, SIZE))
        assert len(told) == 1
        assert f"{path}: truncated, corrupt, or no tar file" in told[0]


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path: Path) -> None:
    """tarfile alone would treat it as the end of the archive."""
    path = make_tar(tmp_path / "a.tar", members(range(5)))
    blob = bytearray(path.read_bytes())
    place = blob.index(b"n003.jpg")
    blob[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(blob)
    told: list[str] = []
    assert labels_of(load(path, told)) == [0, 1, 2]
    assert len(told) == 1
    assert " after n002 (a header of it is damaged); the rest is left out" in told[0]


def test_files_that_are_no_tars_are_named_and_the_others_used(shards: Path) -> None:
    (shards / "set-train-0002.tar").write_bytes(b"<html>not found</html>" * 100)
    told: list[str] = []
    assert len(load(shards, told).train) == 8
    assert len(told) == 1
    assert "set-train-0002.tar: truncated, corrupt, or no tar file" in told[0]


def test_a_shard_that_shrinks_during_the_run_is_unreadable_images(shards: Path) -> None:
    told: list[str] = []
    data = load(shards, told)
    os.truncate(shards / "set-train-0000.tar", 5000)
    assert 3 <= len(labels_of(data)) < 8
    assert any("the shard ends inside it: expected" in line for line in told)


def test_shuffling_moves_shards_anywhere_and_pictures_no_further_than_the_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [make_tar(tmp_path / f"{number}.tar", members(range(12))) for number in range(10)]
    images = TarImages(paths, None, workers=0, unreadable=UnreadableImages(0))
    orders = [images.shuffled(seeded_generator(0, 1, epoch)) for epoch in range(20)]
    assert all(torch.equal(order.sort().values, torch.arange(120)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 20
    assert torch.equal(orders[3], images.shuffled(seeded_generator(0, 1, 3)))
    monkeypatch.setattr(tar_shards, "SHUFFLE_BUFFER", 1e-9)
    for epoch, shuffled in enumerate(orders):
        row = images.shuffled(seeded_generator(0, 1, epoch))
        assert (row // 12).unique_consecutive().numel() == 10, "shard after shard"
        assert (row % 12).view(10, 12).tolist() == [list(range(12))] * 10, "each from front to back"
        assert not torch.equal(row, shuffled)
    monkeypatch.setattr(tar_shards, "SHUFFLE_BUFFER", 8)
    for epoch in range(20):
        row, near = images.shuffled(seeded_generator(0, 1, epoch)), None
        monkeypatch.setattr(tar_shards, "SHUFFLE_BUFFER", 1e-9)
        near = images.shuffled(seeded_generator(0, 1, epoch))
        monkeypatch.setattr(tar_shards, "SHUFFLE_BUFFER", 8)
        moved = (row.argsort() - near.argsort()).abs()
        assert 0 < moved.max() < 8


def test_many_shards_need_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_shards, "_OPEN_SHARDS", 3)
    paths = [make_tar(tmp_path / f"{number}.tar", members(range(number, number + 1))) for number in range(9)]
    images = TarImages(paths, None, workers=0, unreadable=UnreadableImages(0))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [images.read(number) for number in range(9)] == BLOBS[:9]
    assert len(os.listdir("/proc/self/fd")) == before + 3
    del images
    assert len(os.listdir("/proc/self/fd")) == before
