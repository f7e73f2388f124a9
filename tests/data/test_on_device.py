"""Batches that are made on a device are those of the CPU, and nothing waits for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from biper import load_dataset
from biper.data import on_device
from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.transforms import Normalizer, seeded_generator

KEY = (3, 1, 2)


def settings(**changes: Any) -> DataRecipe:
    return DataRecipe(**{"name": "digits", "batch_size": 100, "crop_padding": 2, "flip": True, **changes})


def on_this_device(split: Split, recipe: DataRecipe, first_step: int = 0, share: Share = ALL) -> Any:
    order = torch.randperm(len(split), generator=seeded_generator(*KEY))
    return on_device.batches_on_device(split.images, split.labels, order, recipe, KEY, first_step, share)


@pytest.mark.parametrize("changes", [{}, {"flip": False}, {"crop_padding": 0}, {"crop_padding": 0, "flip": False}])
@pytest.mark.parametrize("share", [ALL, Share(1, 4)])
@pytest.mark.parametrize("kernels", ["0", "1"])
def test_batches_made_for_many_steps_at_once_are_those_of_each_step(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], share: Share, kernels: str
) -> None:
    monkeypatch.setattr(on_device, "CHUNK_BYTES", 5 * 64 * share.of(100).stop)  # the epoch has several chunks
    monkeypatch.setenv("BIPER_KERNELS", kernels)
    split, recipe = load_dataset("digits").train, settings(**changes)
    assert isinstance(split, Split)
    expected = list(split.training_batches(recipe, KEY, 2, share))
    made = list(on_this_device(split, recipe, 2, share))
    assert len(made) == len(expected) == 12
    for (images, labels), (wanted, wanted_labels) in zip(made, expected, strict=True):
        assert torch.equal(images, wanted)
        assert torch.equal(labels, wanted_labels)


def test_signals_are_gathered_as_they_are() -> None:
    split = Split(torch.randn(30, 2, 9), torch.arange(30))
    recipe = DataRecipe(name="signals", batch_size=7)
    for (images, labels), (wanted, _) in zip(
        on_this_device(split, recipe), split.training_batches(recipe, KEY), strict=True
    ):
        assert torch.equal(images, wanted)
        assert torch.equal(images, split.images[labels])


def test_no_value_of_the_device_is_read_for_a_batch() -> None:
    """The values of the device ``meta`` cannot be read, so that everything that would wait for a GPU raises."""
    digits = load_dataset("digits")
    split = digits.train.to("meta")
    batches = list(TrainingBatches(split, digits.spec, settings(), seed=0).epoch(1, 0))
    assert len(batches) == 14
    for images, labels in batches:
        assert images.device.type == labels.device.type == "meta"
        assert images.shape == (100, 1, 8, 8)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_numbers_of_a_normalization_are_copied_to_a_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    make = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *args, **options: made.append(make(*args, **options)) or made[-1])
    normalizer = Normalizer((0.4, 0.6), (0.2, 0.3))
    for _ in range(3):
        normalizer(torch.zeros(2, 5, 5, 2, dtype=torch.uint8))
    assert len(made) == 2
