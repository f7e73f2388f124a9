"""Evaluation on a data set that is not the model's own: one line, for networks in torch and for packed ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import trained_like
from support.programs import PLAIN, operation, program_of

import biper
from biper.data.dataset import Split
from biper.errors import DataError
from biper.measure.evaluation import evaluate_packed
from biper.runtime import Model

IMAGES, LABELS = torch.zeros(4, 8, 8, 1, dtype=torch.uint8), torch.tensor([0, 3, 9, 1])


def split(images: torch.Tensor = IMAGES, labels: torch.Tensor = LABELS) -> Split:
    return replace(biper.load_dataset("digits").split("test"), images=images, labels=labels)


def packed(classes: int) -> Model:
    layer = operation(
        "convolution", "image", {"weight": np.ones((classes, 1, 8, 8), np.float32)}, real="y", attributes=PLAIN
    )
    return Model(program_of((1, 8, 8), [layer], "y"))


def test_images_with_other_channels_are_refused() -> None:
    model = trained_like("digits_cnn", "digits")
    coloured = split(IMAGES.expand(-1, -1, -1, 3).contiguous())
    with pytest.raises(DataError, match="the images have 3 channels, and the model takes 1"):
        biper.evaluate(model, coloured, (0.5,), (0.25,))
    with pytest.raises(DataError, match=r"the model expects uint8 images \(N, 8, 8, 1\)"):
        evaluate_packed(packed(10), coloured)


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    model = trained_like("digits_cnn", "digits")
    assert biper.evaluate(model, split(), (0.5,), (0.25,)).images == 4
    assert evaluate_packed(packed(10), split()).images == 4
    message = "an image is of class 1[02], counted from 0, and the model has 10 classes"
    with pytest.raises(DataError, match=message):
        biper.evaluate(model, split(labels=LABELS + 1), (0.5,), (0.25,))
    with pytest.raises(DataError, match=message):
        evaluate_packed(packed(10), split(labels=LABELS + 3))
