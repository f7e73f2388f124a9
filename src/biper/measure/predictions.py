"""The predictions of a model on a split: the confusion matrix, and the errors of highest confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biper.data.dataset import Images
from biper.data.transforms import normalize
from biper.errors import DataError

ERRORS = 24
"""How many errors are kept, with their pictures."""


@dataclass(frozen=True)
class WrongAnswer:
    """One image that a model classifies wrongly.

    Attributes:
        index: the number of the image in the split.
        label: the number of its class.
        answer: the number of the class that the model predicts.
        confidence: the softmax probability of the answer, 0 to 1.
        pixels: the image as a picture, (H, W, C) uint8; see `as_picture`.
    """

    index: int
    label: int
    answer: int
    confidence: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for the images of a split.

    Attributes:
        classes: the names of the classes, in the order of the labels.
        confusion: how many images of class i (row) are predicted as class j (column), int64.
        wrong: the errors of highest confidence, the highest first.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    wrong: tuple[WrongAnswer, ...]

    @property
    def images(self) -> int:
        """How many images were predicted."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many predictions are right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy, 0 to 1."""
        return self.correct / self.images


def as_picture(sample: Tensor) -> NDArray[np.uint8]:
    """A sample as a picture.

    Args:
        sample: pixels (H, W, C) uint8; or floating-point numbers, (C, H, W), or (C, L) for a signal.

    Returns:
        (H, W, 1 or 3) uint8. Floating-point numbers go from the smallest (black) to the largest (white) of the sample;
        a signal has a row for each channel; channels that are not 1 or 3 stand one below the other.
    """
    values = sample.detach().cpu()
    if not values.is_floating_point():
        return values.numpy()
    values = values.float()
    low, high = values.min(), values.max()
    grey = ((values - low) * (255 / (high - low).clamp(min=1e-12))).round().to(torch.uint8)
    if grey.dim() == 3 and len(grey) in (1, 3):
        return grey.permute(1, 2, 0).contiguous().numpy()
    return grey.reshape(-1, grey.shape[-1], 1).numpy()


def predict_split(
    model: nn.Module,
    split: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    classes: tuple[str, ...],
    *,
    limit: int | None = None,
) -> Predictions:
    """Predict the images of a split, with the model in evaluation mode.

    Args:
        model: a network from images (N, C, H, W) to logits (N, classes), on the device of the split.
        split: the images, which are predicted in order.
        mean: the mean that the model was trained with, one number for each channel.
        std: the standard deviation that the model was trained with, one number for each channel.
        classes: the names of the classes, one for each logit.
        limit: predict at most this many images; default all.

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
                wrong.append(WrongAnswer(*facts, pixels=as_picture(pixels[place])))
            wrong = sorted(wrong, key=lambda answer: -answer.confidence)[:ERRORS]
            done += len(truth)
            if done == limit:
                break
    if not done:
        raise DataError("no image of the split can be read")
    return Predictions(classes, confusion, tuple(wrong))
