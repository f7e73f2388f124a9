"""Hostile data sets: only regular files are read, each once, and what messages quote is short and escaped."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from attacks.data_sets import DAMAGED, DATA, TOLERATED
from attacks.gallery import Attack
from support.pictures import encoded, make_folder, make_tar, picture

from biper.data import load_dataset
from biper.data.dataset import Dataset
from biper.data.names import Names
from biper.data.tar_headers import members
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes in folders")


def load(path: Path, told: list[str] | None = None) -> Dataset:
    unreadable = UnreadableImages(100, report=[].append if told is None else told.append)
    return load_dataset("images", path, image_size=16, workers=0, unreadable=unreadable)


@pytest.mark.parametrize("attack", DATA.parameters())
def test_a_hostile_data_set_is_refused_at_once(attack: Attack, tmp_path: Path) -> None:
    path = attack.make(tmp_path)
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        load(path)
    assert time.process_time() - start < 2
    assert str(caught.value).replace(str(tmp_path), "FOLDER") == attack.error


@pytest.mark.parametrize("attack", [*TOLERATED.parameters(), *DAMAGED.parameters()])
def test_a_hostile_shard_gives_the_pictures_that_are_whole(attack: Attack, tmp_path: Path) -> None:
    path = attack.make(tmp_path)
    make_tar(tmp_path / "b.tar", {"m0.jpg": encoded(picture(1)), "m0.cls": b"0"})
    told: list[str] = []
    data = load(tmp_path, told)
    assert data.train is not None
    assert len(data.train) == (2 if attack in TOLERATED.attacks else 1)
    text = told[0].replace(str(path), "FILE").partition(": ")[2] if told else ""
    assert text == attack.error


def test_links_that_lead_back_count_each_picture_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", ("ant", "bee"), 3)
    (tmp_path / "train" / "ant" / "again").symlink_to(tmp_path / "train" / "ant")
    (tmp_path / "train" / "ant" / "above").symlink_to(tmp_path / "train")
    (tmp_path / "train" / "bee" / "other").symlink_to(tmp_path / "train" / "ant")
    (tmp_path / "train" / "bee" / "3.JPEG").symlink_to(tmp_path / "train" / "bee" / "0.JPEG")
    (tmp_path / "elsewhere.jpg").write_bytes(encoded(picture(9)))
    (tmp_path / "train" / "bee" / "4.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "train" / "bee" / "5.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    data = load(tmp_path)
    assert data.train is not None
    labels = torch.cat([part for _, part in data.train.in_order(3)])
    assert labels.bincount().tolist() == [3, 4]


def test_a_picture_that_becomes_a_pipe_or_too_large_is_unreadable(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", ("ant",), 3)
    told: list[str] = []
    data = load(tmp_path, told)
    files = sorted((tmp_path / "train" / "ant").iterdir())
    files[0].unlink()
    os.mkfifo(files[0])
    os.truncate(files[1], 1 << 40)
    assert data.train is not None
    assert sum(len(labels) for _, labels in data.train.in_order(3)) == 1
    assert "expected a regular file" in told[0]
    assert "1,099,511,627,776 bytes, expected at most" in told[1]


def test_names_for_the_terminal_are_escaped(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", {"n0.jpg": encoded(picture(0)), "n0.cls": b"0", "\x1b[2J\u202e.cls": b"0"})
    told: list[str] = []
    load(tmp_path / "a.tar", told)
    assert len(told) == 1
    assert told[0].isprintable()
    assert "\\x1b[2J\\u202e" in told[0]


def test_one_long_name_takes_no_memory_for_the_others() -> None:
    tracemalloc.start()
    names = Names(["x" * 4_000, *map(str, range(100_000))])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (names[0], names[1], names[100_000], len(names)) == ("x" * 4_000, "0", "99999", 100_001)
    assert most < 20_000_000


def test_the_headers_are_those_that_the_standard_library_writes() -> None:
    """Names of every length in every format, beside sparse files, links and folders."""
    import tarfile

    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        content = io.BytesIO()
        names = ["a.jpg", "d" * 90 + "/" + "n" * 90, "é" * 40]
        names += [] if form == tarfile.USTAR_FORMAT else ["x" * 300, "ü" * 200]
        with tarfile.open(fileobj=content, mode="w", format=form) as tar:
            for number, name in enumerate(names):
                folder = tarfile.TarInfo(f"folder{number}")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
                info = tarfile.TarInfo(name)
                info.size = number * 400
                tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
        found = list(members(content))
        assert [member.name for member in found] == names
        for number, member in enumerate(found):
            assert content.getvalue()[member.offset : member.offset + member.size] == bytes([number]) * (number * 400)
