"""Loss and accuracy of a model on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.data.batches import evaluation_batches
from biper.data.dataset import Images
from biper.errors import DataError
from biper.runtime.model import Model


@dataclass(frozen=True)
class Scores:
    """``loss``: mean cross-entropy in nats; ``correct`` of ``images`` have their label on top.

    ``images`` are those that could be read, each counted once.
    """

    loss: float
    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.correct / self.images


def evaluate(
    model: nn.Module,
    split: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    precision_context: Callable[[], AbstractContextManager[object]] = nullcontext,
    sum_over_processes: Callable[[Sequence[float]], Sequence[float]] = tuple,
) -> Scores:
    """Top-1 accuracy and cross-entropy over a whole split, in evaluation mode (the model's mode is put back).

    Args:
        model: images (N, C, H, W) to logits (N, classes), on the device of the split.
        split: what to evaluate on.
        mean, std: the normalization that the model was trained with, one number a channel.
        precision_context: makes the context to compute in, such as an autocast.
        sum_over_processes: adds numbers up over the processes, where each was given its share of the split.

    Raises:
        DataError: no image of the split can be read.
    """
    was_training = model.training
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    total = _Total()
    try:
        with torch.inference_mode(), precision_context():
            for images, labels in evaluation_batches(split, mean, std):
                total.add(model(images.to(dtype)).float(), labels)
    finally:
        model.train(was_training)
    return total.scores(sum_over_processes)


def evaluate_packed(model: Model, split: Images) -> Scores:
    """The same scores for a packed model, which normalizes the images by itself.

    Raises:
        DataError: the images are not of the model's size, or no image can be read.
    """
    total = _Total()
    for images, labels in split.in_order():
        total.add(torch.from_numpy(model(images.cpu().numpy())).flatten(1), labels.cpu())
    return total.scores()


@dataclass
class _Total:
    """Sums over the batches so far."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self.loss += F.cross_entropy(logits, labels, reduction="sum").item()
        self.correct += int((logits.argmax(1) == labels).sum())
        self.images += len(labels)

    def scores(self, sum_over_processes: Callable[[Sequence[float]], Sequence[float]] = tuple) -> Scores:
        loss, correct, images = sum_over_processes((self.loss, self.correct, self.images))
        if images == 0:
            raise DataError("no image of the split can be read")
        return Scores(loss / images, int(correct), int(images))
