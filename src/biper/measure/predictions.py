"""What a model answers on a split: the confusion matrix, and the errors that it is surest of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biper.data.dataset import Images
from biper.data.transforms import normalize
from biper.errors import DataError

ERRORS = 24
"""How many errors are kept with their pictures."""


@dataclass(frozen=True)
class WrongAnswer:
    """One image that a model gets wrong: its number in the split, label and answer as class numbers.

    ``confidence`` is the softmax probability of the answer, 0 to 1; ``pixels`` are uint8 (H, W, C).
    """

    index: int
    label: int
    answer: int
    confidence: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Predictions:
    """Answers on the images of a split.

    Attributes:
        classes: names, in the order of the labels.
        confusion: how many images of class i (row) are taken for class j (column), int64.
        wrong: the errors of highest confidence, surest first.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    wrong: tuple[WrongAnswer, ...]

    @property
    def images(self) -> int:
        """How many there were."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many are right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Top-1, 0 to 1."""
        return self.correct / self.images


def predict_split(
    model: nn.Module,
    split: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...],
    *,
    limit: int | None = None,
) -> Predictions:
    """Ask a model, in evaluation mode, about the images of a split.

    Args:
        model: images (N, C, H, W) to logits (N, classes), on the device of the split.
        split: what to ask about, in order.
        mean, std: the normalization that the model was trained with, one number a channel.
        classes: names, one for each output.
        limit: ask about the first so many at most.

    Raises:
        DataError: no image of the split can be read.
    """
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    wrong: list[WrongAnswer] = []
    done = 0
    with torch.inference_mode():
        for pixels, labels in split.in_order():
            if limit is not None:
                pixels, labels = pixels[: limit - done], labels[: limit - done]
            probabilities = model(normalize(pixels, mean, std).to(dtype)).float().softmax(1)
            confidences, answers = (part.cpu().numpy() for part in probabilities.max(1))
            truth = labels.cpu().numpy()
            np.add.at(confusion, (truth, answers), 1)
            for place in np.flatnonzero(answers != truth):
                facts = done + int(place), int(truth[place]), int(answers[place]), float(confidences[place])
                wrong.append(WrongAnswer(*facts, pixels=pixels[place].cpu().numpy()))
            wrong = sorted(wrong, key=lambda answer: -answer.confidence)[:ERRORS]
            done += len(truth)
            if done == limit:
                break
    if not done:
        raise DataError("no image of the split can be read")
    return Predictions(classes, confusion, tuple(wrong))
