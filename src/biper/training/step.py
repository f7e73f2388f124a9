"""One training step up to its update: forward, loss, penalty, backward, and whether all of it is finite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.nn.penalty import periodic_penalty
from biper.recipes.schema import StageRecipe
from biper.training.distributed.processes import Processes
from biper.training.teacher import Teacher


@dataclass(frozen=True)
class StepSums:
    """The sums of one step over all processes.

    Attributes:
        objective: the sum of the minimized function over the parts of the batch; finite if every part is.
        loss: the sum of the cross-entropy over the images, in nats.
        correct: how many images were classified correctly.
        images: how many images the step had.
    """

    objective: float
    loss: float
    correct: int
    images: int


@dataclass(frozen=True)
class TrainingStep:
    """The gradient of one batch.

    The minimized function of a part of the batch is ``loss + penalty``: the cross-entropy of `StageRecipe` (with a
    teacher, mixed with the distance from the answers of the teacher) and `biper.periodic_penalty`. The gradient is the
    mean over all processes, and over the parts that each process divides its images into.

    Attributes:
        model: the network as `Processes.set_up` returned it.
        module: the same network without the wrapping.
        stage: the settings of the stage.
        parts: how many parts each process divides its images into; their gradients are accumulated.
        processes: the processes that share the batch.
        teacher: the teacher, if there is one.
        scales_loss: whether a loss scaler multiplies the loss (float16). It skips steps with gradients that are not
            finite, so that these are no error.
    """

    model: Any
    module: nn.Module
    stage: StageRecipe
    parts: int
    processes: Processes
    teacher: Teacher | None
    scales_loss: bool

    def add_gradients(self, images: Tensor, labels: Tensor) -> StepSums:
        """Add the gradients of a batch to those of the parameters.

        Args:
            images: the share of this process, (N, C, H, W) floating point, normalized.
            labels: (N,) int64; or the probability of each class, (N, classes), whose largest counts as the label.
        """
        fabric = self.processes.fabric
        dtype = next(self.module.parameters()).dtype
        parts = list(zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True))
        objective_sum = loss_sum = correct = 0.0
        for number, (part, answers) in enumerate(parts, 1):
            with fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                logits = self.model(part.to(dtype))
                targets = answers.to(logits.dtype) if answers.is_floating_point() else answers
                loss = F.cross_entropy(logits, targets, label_smoothing=self.stage.label_smoothing)
                answers = targets if targets.dim() == 1 else targets.argmax(1)
                learned = loss if self.teacher is None else self.teacher.loss(part, logits, loss)
                objective = learned + periodic_penalty(self.module, self.stage.periodic_penalty).to(loss.device)
                fabric.backward(objective / len(parts))
            objective_sum += objective.item()
            loss_sum += loss.item() * len(answers)
            correct += int((logits.argmax(1) == answers).sum())
        objective_sum, loss_sum, correct, image_count = self.processes.sum(
            [objective_sum, loss_sum, correct, len(labels)]
        )
        return StepSums(objective_sum, loss_sum, int(correct), int(image_count))

    def find_non_finite(self, sums: StepSums) -> tuple[str, float] | None:
        """What is not finite after `add_gradients`, ``"loss"`` or ``"gradient"``, with its value; None if all is."""
        if not math.isfinite(sums.objective):
            return "loss", sums.objective
        if self.scales_loss:
            return None
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        return None if math.isfinite(norm) else ("gradient", norm)
