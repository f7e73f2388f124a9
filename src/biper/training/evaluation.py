"""Loss and accuracy of a model on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from biper.data.batches import evaluation_batches
from biper.data.dataset import Split
from biper.runtime.model import Model


@dataclass(frozen=True)
class Scores:
    """``loss``: mean cross-entropy in nats; ``correct`` of ``images`` have their label on top."""

    loss: float
    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.correct / self.images


def evaluate(
    model: nn.Module,
    split: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    precision_context: Callable[[], AbstractContextManager[object]] = nullcontext,
    sum_over_processes: Callable[[Sequence[float]], Sequence[float]] = list,
) -> Scores:
    """Top-1 accuracy and cross-entropy over a whole split, in evaluation mode (the model's mode is put back).

    Args:
        model: images (N, C, H, W) to logits (N, classes), on the device of the split.
        split: what to evaluate on.
        mean, std: the normalization that the model was trained with, one number a channel.
        precision_context: makes the context to compute in, such as an autocast.
        sum_over_processes: adds numbers up over the processes, where each was given its share of the split.
    """
    was_training = model.training
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    loss, correct = 0.0, 0
    try:
        with torch.inference_mode(), precision_context():
            for images, labels in evaluation_batches(split, mean, std):
                logits = model(images.to(dtype)).float()
                loss += F.cross_entropy(logits, labels, reduction="sum").item()
                correct += int((logits.argmax(1) == labels).sum())
    finally:
        model.train(was_training)
    loss, all_correct, images = sum_over_processes([loss, correct, len(split)])
    return Scores(loss / images, int(all_correct), int(images))


def evaluate_packed(model: Model, split: Split) -> Scores:
    """The same scores for a packed model, which normalizes the images by itself.

    Raises:
        DataError: the images are not of the model's size.
    """
    loss, correct = 0.0, 0
    for start in range(0, len(split), 500):
        images, labels = split.images[start : start + 500], split.labels[start : start + 500]
        logits = torch.from_numpy(model(images.cpu().numpy())).flatten(1)
        labels = labels.cpu()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
    return Scores(loss / len(split), correct, len(split))
