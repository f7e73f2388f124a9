"""`benchmarks/cifar_parts.py`: the parts give the same bytes, whatever the pixels are."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.benchmarks import script

cifar_parts = script("cifar_parts")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def batches(folder: Path) -> Path:
    """Three batches: noise, smooth images, and more images than one picture holds."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(7), np.arange(cifar_parts.RECORD)).astype(np.uint8)
    noise = draws.integers(256, size=(5, cifar_parts.RECORD), dtype=np.uint8)
    many = np.repeat(draws.integers(256, size=(401, 1), dtype=np.uint8), cifar_parts.RECORD, 1)
    for number, records in enumerate((noise, smooth, many), 1):
        records.tofile(folder / f"data_batch_{number}.bin")
    (folder / "batches.meta.txt").write_text("cat\ndog\n")
    return folder


def test_both_parts_together_are_the_same_files(tmp_path: Path) -> None:
    there = batches(tmp_path / "data" / cifar_parts.FOLDER)
    parts = cifar_parts.pack(tmp_path / "data", tmp_path / "parts")
    assert [part.name for part in parts] == ["cifar10-1.zip", "cifar10-2.zip"]
    for part in reversed(parts):
        here = cifar_parts.unpack([part], tmp_path / "back")
    assert sorted(file.name for file in here.iterdir()) == sorted(file.name for file in there.iterdir())
    for file in there.iterdir():
        assert digest(here / file.name) == digest(file)


def test_a_part_that_was_changed_is_refused(tmp_path: Path) -> None:
    part = cifar_parts.pack(batches(tmp_path / "data"), tmp_path)[0]
    with zipfile.ZipFile(part) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["data_batch_1.bin.labels"] = bytes(5)
    with zipfile.ZipFile(part, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"cifar10-1.zip is corrupt: data_batch_1.bin does not have the SHA-256"):
        cifar_parts.unpack([part], tmp_path / "back")
    assert not list((tmp_path / "back" / cifar_parts.FOLDER).iterdir())


def test_a_folder_without_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no CIFAR-10 batches"):
        cifar_parts.pack(tmp_path, tmp_path)


@pytest.mark.slow
def test_cifar_10_fits_into_two_parts_below_64_mebibytes(tmp_path: Path, cifar_dir: Path) -> None:
    parts = cifar_parts.pack(cifar_dir, tmp_path)
    assert all(part.stat().st_size < 2**26 for part in parts)
    back = cifar_parts.unpack(parts, tmp_path)
    for file in (cifar_dir / cifar_parts.FOLDER).iterdir():
        assert digest(back / file.name) == digest(file)
