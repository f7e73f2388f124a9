from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from biper import load_dataset
from biper.data.batches import TrainingBatches
from biper.data.dataset import Split
from biper.data.mixing import cut_out_, mix_up
from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.specs import DatasetSpec, dataset_spec
from biper.errors import DataError

KEY = 0, 1, 2, 3


def batches(share: Share = ALL, **settings: Any) -> TrainingBatches:
    digits = load_dataset("digits")
    recipe = DataRecipe(name="digits", batch_size=96, crop_padding=1, **settings)
    return TrainingBatches(digits.train, digits.spec, recipe, seed=0, share=share)


@pytest.mark.parametrize("side", [1, 4, 5, 9])
def test_a_square_around_a_pixel_is_cut_out(side: int) -> None:
    images = torch.ones(400, 3, 9, 7).contiguous(memory_format=torch.channels_last)
    result = cut_out_(images, side, KEY)
    assert result is images
    kept = result[:, 0].bool()
    assert torch.equal(result, kept[:, None].expand_as(result).float())
    centres = set()
    for image in kept.numpy():
        rows, columns = (~image).any(1).nonzero()[0], (~image).any(0).nonzero()[0]
        assert not image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any()
        centre = [
            c
            for c in ((r, s) for r in range(9) for s in range(7))
            if [*rows] == [r for r in range(c[0] - side // 2, c[0] - side // 2 + side) if 0 <= r < 9]
            and [*columns] == [s for s in range(c[1] - side // 2, c[1] - side // 2 + side) if 0 <= s < 7]
        ]
        assert centre
        centres.add(centre[0])
    assert len(centres) > (50 if side < 9 else 1)


def test_images_and_labels_are_mixed_in_one_proportion() -> None:
    images = torch.randn(32, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(32) % 5
    weights = []
    for step in range(200):
        mixed, targets = mix_up(images, labels, 0.5, 5, (0, 1, 2, step))
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(targets.sum(1), torch.ones(32))
        # the weight and the partners are what solves the formula for the images
        differing = next(i for i in range(32) if not torch.equal(mixed[i], images[i]) and targets[i].max() < 1)
        weight = targets[differing, labels[differing]].item()
        weights.append(weight)
        partners = [
            min(range(32), key=lambda j: (weight * images[i] + (1 - weight) * images[j] - mixed[i]).abs().max())
            for i in range(32 if step < 3 else 0)
        ]
        if partners:
            assert sorted(partners) == list(range(32))
            expected = weight * images + (1 - weight) * images[partners]
            torch.testing.assert_close(mixed, expected)
            wanted = weight * F.one_hot(labels, 5) + (1 - weight) * F.one_hot(labels[partners], 5)
            torch.testing.assert_close(targets, wanted)
    found = torch.tensor(weights)
    assert found.mean().item() == pytest.approx(0.5, abs=0.1)
    assert found.var().item() == pytest.approx(1 / 8, abs=0.03)  # 1 / (4 (2 alpha + 1))


@pytest.mark.parametrize("settings", [{"cutout": 3}, {"mixup": 0.3}, {"cutout": 4, "mixup": 1.0, "flip": True}])
def test_batches_are_the_same_in_any_number_of_processes_and_from_any_step(settings: dict[str, Any]) -> None:
    whole = list(batches(**settings).epoch(1, 3))
    again = list(batches(**settings).epoch(1, 3, first_step=len(whole) - 2))
    for count in (2, 3):
        parts = [list(batches(Share(rank, count), **settings).epoch(1, 3)) for rank in range(count)]
        for step, (images, labels) in enumerate(whole):
            assert torch.equal(torch.cat([part[step][0] for part in parts]), images)
            assert torch.equal(torch.cat([part[step][1] for part in parts]), labels)
    for (images, labels), (images_again, labels_again) in zip(whole[-2:], again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)
    assert not torch.equal(whole[0][0], next(batches(**settings).epoch(1, 4))[0])


def test_other_augmentation_is_not_changed() -> None:
    plain, cut = next(batches().epoch(1, 0)), next(batches(cutout=3).epoch(1, 0))
    assert torch.equal(plain[1], cut[1])
    inside = cut[0] != 0
    assert torch.equal(plain[0][inside], cut[0][inside])
    assert 0.8 < inside.float().mean() < 0.95
    mixed, targets = next(batches(mixup=1e-300).epoch(1, 0))  # the weight is 0 or 1: whole images in another order
    assert torch.equal(mixed.flatten(1).sort(0).values, plain[0].flatten(1).sort(0).values)
    assert torch.equal(targets.argmax(1).bincount(), plain[1].bincount())


def test_settings_that_do_not_apply_are_refused() -> None:
    signals = Split(torch.randn(20, 2, 50), torch.arange(20) % 4)
    spec = DatasetSpec("signals", "own", 4, 2, 50, (0.0, 0.0), (1.0, 1.0), own_shape=(2, 50), pixels=False)
    with pytest.raises(DataError, match=r"data\.cutout is for pictures, and the samples here are numbers"):
        TrainingBatches(signals, spec, DataRecipe(name="signals", batch_size=10, cutout=4), seed=0)
    mixed, targets = next(
        TrainingBatches(signals, spec, DataRecipe(name="signals", batch_size=10, mixup=1.0), seed=0).epoch(1, 0)
    )
    assert (mixed.shape, targets.shape) == ((10, 2, 50), (10, 4))
    with pytest.raises(DataError, match=r"data\.cutout = 9 is larger than the images, whose shorter side is 8 pixels"):
        batches(cutout=9)
    for key, value in (("cutout", 16), ("mixup", 0.2)):
        with pytest.raises(DataError, match=rf"data\.{key} is for images in memory, and imagenet is decoded"):
            TrainingBatches(
                load_dataset("digits").train,
                dataset_spec("imagenet"),
                DataRecipe(name="imagenet", batch_size=4, **{key: value}),  # type: ignore[arg-type]
                seed=0,
            )
