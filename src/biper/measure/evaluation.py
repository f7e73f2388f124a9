"""The loss and the accuracy of a model on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.data.batches import evaluation_batches
from biper.data.dataset import Images
from biper.data.transforms import normalize
from biper.errors import DataError, ModelError
from biper.runtime.model import Model


@dataclass(frozen=True)
class Scores:
    """The scores of a model on a split.

    Attributes:
        loss: mean cross-entropy, in nats.
        correct: how many images have their label as the largest logit.
        images: how many images were scored; images that cannot be read do not count.
    """

    loss: float
    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy, 0 to 1."""
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
    """Compute the top-1 accuracy and the cross-entropy over a whole split.

    The model computes in evaluation mode and is put back into its own mode afterwards.

    Args:
        model: a network from images (N, C, H, W), or signals (N, C, L), to logits (N, classes), on the device of the
            split.
        split: the images or signals to evaluate on.
        mean: the mean that the model was trained with, one number for each channel.
        std: the standard deviation that the model was trained with, one number for each channel.
        precision_context: makes the context to compute in, such as an autocast.
        sum_over_processes: adds numbers up over all processes, if each process has a share of the split.

    Returns:
        The scores over all images that can be read.

    Raises:
        DataError: no image of the split can be read; or the images have other channels or classes than the model.
        ModelError: a weight or buffer of the model is NaN or infinite.
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
    scores = total.scores(sum_over_processes)
    if not math.isfinite(scores.loss):
        _require_finite(model)
    return scores


def _require_finite(model: nn.Module) -> None:
    """Raise a `ModelError` that names a weight or buffer which is NaN or infinite, if there is one."""
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"the model has values in {name} that are NaN or infinite")


def evaluate_packed(model: Model, split: Images) -> Scores:
    """Compute the same scores for a packed model, with the normalization that its file holds.

    Args:
        model: the packed model.
        split: the images to evaluate on.

    Raises:
        DataError: the images do not have the size, the channels or the classes of the model, or none can be read.
    """
    total = _Total()
    for images, labels in split.in_order():
        samples = images.cpu()
        if samples.is_floating_point():  # a packed model normalizes pixels alone
            samples = normalize(samples, model.program.mean, model.program.std)
        results = model(samples.numpy())
        logits = next(iter(results.values())) if isinstance(results, dict) else results  # the first of several results
        total.add(torch.from_numpy(logits).flatten(1), labels.cpu())
    return total.scores()


@dataclass
class _Total:
    """The sums over the batches so far."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        if len(labels) and int(labels.max()) >= logits.shape[1]:
            raise DataError(
                f"an image is of class {int(labels.max())}, counted from 0, and the model has {logits.shape[1]} "
                "classes: name its own data set"
            )
        self.loss += F.cross_entropy(logits, labels, reduction="sum").item()
        self.correct += int((logits.argmax(1) == labels).sum())
        self.images += len(labels)

    def scores(self, sum_over_processes: Callable[[Sequence[float]], Sequence[float]] = tuple) -> Scores:
        loss, correct, images = sum_over_processes((self.loss, self.correct, self.images))
        if images == 0:
            raise DataError("no image of the split can be read")
        return Scores(loss / images, int(correct), int(images))
