from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biper import load_dataset
from biper.data.batches import TrainingBatches, evaluation_batches
from biper.data.dataset import Split
from biper.data.settings import DataRecipe
from biper.data.transforms import normalize, random_crop_and_flip
from biper.errors import DataError

CIFAR10 = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


@pytest.fixture
def fake_cifar(tmp_path: Path) -> Path:
    """CIFAR-10's files at their official sizes, as sparse files of zeros: black images of class 0."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in CIFAR10:
        (folder / name).touch()
        os.truncate(folder / name, 30_730_000)
    return folder


def test_digits_come_with_the_package() -> None:
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.shape == (1437, 8, 8, 1)
    assert digits.train.images.max() == 255
    assert sorted(torch.cat([digits.train.labels, digits.test.labels]).bincount().tolist()) == sorted(
        [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    pixels = torch.cat([digits.train.images, digits.test.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(digits.spec.mean[0], abs=2e-3)
    assert pixels.std().item() == pytest.approx(digits.spec.std[0], abs=2e-3)


def test_cifar10_reads_every_image_as_it_is_in_the_file(cifar_dir: Path) -> None:
    cifar = load_dataset("cifar10", cifar_dir)
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    assert cifar.classes[:3] == ("airplane", "automobile", "bird")
    assert cifar.train.labels.bincount().tolist() == [5000] * 10
    raw = np.fromfile(cifar_dir / "cifar-10-batches-bin" / "data_batch_3.bin", np.uint8).reshape(-1, 3073)
    record, image = raw[123], cifar.train.images[20_123]
    assert cifar.train.labels[20_123] == record[0]
    for channel in range(3):
        plane = record[1 + 1024 * channel : 1025 + 1024 * channel].reshape(32, 32)
        assert np.array_equal(image[..., channel].numpy(), plane)


def test_the_official_folder_itself_is_found_too(fake_cifar: Path) -> None:
    assert len(load_dataset("cifar10", fake_cifar).test) == 10_000
    assert load_dataset("cifar10", fake_cifar.parent).classes == tuple("0123456789")


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train.bin", 50_000), ("test.bin", 10_000)):
        records = np.zeros((count, 3074), np.uint8)
        records[:, 0], records[:, 1] = 19, np.arange(count) % 100
        records.tofile(folder / name)
    cifar = load_dataset("cifar100", tmp_path)
    assert cifar.test.labels[:101].tolist() == [*range(100), 0]


@pytest.mark.parametrize(
    ("size", "state"),
    [(30_729_999, "truncated"), (0, "truncated"), (3073 * 9999, "truncated"), (30_730_001, "corrupt")],
)
def test_a_file_of_another_size_is_named(fake_cifar: Path, size: int, state: str) -> None:
    os.truncate(fake_cifar / "data_batch_4.bin", size)
    with pytest.raises(DataError, match=rf"data_batch_4\.bin is {state}: expected 30,730,000 bytes, got {size:,}"):
        load_dataset("cifar10", fake_cifar)


def test_a_label_out_of_range_is_named(fake_cifar: Path) -> None:
    with open(fake_cifar / "test_batch.bin", "r+b") as file:
        file.seek(3073 * 77)
        file.write(b"\x0b")
    with pytest.raises(DataError, match=r"test_batch\.bin is corrupt: record 77 has label 11, expected 0 to 9"):
        load_dataset("cifar10", fake_cifar)


def test_a_missing_file_and_a_missing_folder_are_named(fake_cifar: Path) -> None:
    (fake_cifar / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2\.bin is missing"):
        load_dataset("cifar10", fake_cifar)
    with pytest.raises(DataError, match=r"no folder .*nowhere: data_dir=\.\.\. expects"):
        load_dataset("cifar10", fake_cifar / "nowhere")


def test_no_data_and_no_network_says_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIPER_CACHE", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(DataError, match=r"data_dir=\.\.\., or connect to the network") as caught:
        load_dataset("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'cifar100'"):
        load_dataset("cifar1000")
    with pytest.raises(DataError, match="split must be one of"):
        load_dataset("digits").split("validation")


def test_held_out_images_are_fixed_and_not_trained_on() -> None:
    digits = load_dataset("digits")
    kept, held_out = digits.hold_out()
    again = digits.hold_out()[1]
    assert torch.equal(held_out.images, again.images)
    assert (len(kept), len(held_out)) == (1293, 144)
    together = torch.cat([kept.images, held_out.images]).flatten(1)
    everything = digits.train.images.flatten(1)
    assert torch.equal(together.unique(dim=0), everything.unique(dim=0))


def test_five_thousand_images_of_cifar_are_held_out(fake_cifar: Path) -> None:
    kept, held_out = load_dataset("cifar10", fake_cifar).hold_out()
    assert (len(kept), len(held_out)) == (45_000, 5_000)


def test_normalization_is_the_formula() -> None:
    images = torch.randint(256, (3, 5, 4, 2), dtype=torch.uint8)
    mean, std = (0.4, 0.6), (0.2, 0.3)
    expected = (images.permute(0, 3, 1, 2).double() / 255 - torch.tensor(mean).view(2, 1, 1)) / torch.tensor(std).view(
        2, 1, 1
    )
    result = normalize(images, mean, std)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_crops_and_flips_are_shifts_and_mirrors_of_the_padded_image() -> None:
    images = torch.randint(1, 256, (64, 6, 5, 3), dtype=torch.uint8)
    result = random_crop_and_flip(images, 2, True, torch.Generator().manual_seed(1))
    assert result.shape == images.shape
    seen = set()
    for image, crop in zip(images, result, strict=True):
        padded = np.pad(image.numpy(), ((2, 2), (2, 2), (0, 0)))
        matches = [
            (dy, dx, flip)
            for dy in range(5)
            for dx in range(5)
            for flip in (False, True)
            if np.array_equal(crop.numpy(), padded[dy : dy + 6, dx : dx + 5][:, :: -1 if flip else 1])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {flip for *_, flip in seen} == {False, True}
    assert len(seen) > 20


def batches(seed: int = 0, **settings: Any) -> TrainingBatches:
    digits = load_dataset("digits")
    recipe = DataRecipe(**{"name": "digits", "batch_size": 100, "crop_padding": 1, **settings})
    return TrainingBatches(digits.train, digits.spec, recipe, seed=seed)


def test_batches_can_be_made_again_from_any_step() -> None:
    whole = list(batches().epoch(1, 3))
    rest = list(batches().epoch(1, 3, first_step=10))
    assert len(whole) == len(batches()) == 14
    for (images, labels), (again, labels_again) in zip(whole[10:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


def test_epochs_stages_and_seeds_differ() -> None:
    firsts = [
        next(batches(seed).epoch(stage, epoch))[1]
        for seed, stage, epoch in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0))
    ]
    for i, first in enumerate(firsts):
        assert not any(torch.equal(first, other) for other in firsts[:i])


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(DataError, match="batch size 2000 is larger than the 1437 training images"):
        batches(batch_size=2000)


@pytest.mark.parametrize("setting", [{"image_size": 16}, {"crop_scale": (0.08, 1.0)}, {"colour_jitter": 0.4}])
def test_settings_for_decoded_images_are_refused_for_images_in_memory(setting: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"data.{next(iter(setting))} is for images that are decoded"):
        batches(**setting)


def test_evaluation_sees_every_image_once_in_order() -> None:
    digits = load_dataset("digits")
    labels = torch.cat([labels for _, labels in evaluation_batches(digits.test, (0.0,), (1.0,), batch_size=77)])
    assert torch.equal(labels, digits.test.labels)


def test_a_split_checks_what_it_is_given() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    for images in (
        torch.zeros(2, 3, 3, 1).double(),
        torch.zeros(2, 3),
        torch.zeros(2, 4, 9).byte(),
        torch.zeros(3, 4, 9),
    ):
        with pytest.raises(DataError, match="uint8 images"):
            Split(images, labels)
