"""The gradient of one training step: forward, loss, penalty and backward. Nothing here waits for a GPU."""

from __future__ import annotations

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
        scales_loss: whether a loss scaler multiplies the loss (float16).
    """

    model: Any
    module: nn.Module
    stage: StageRecipe
    parts: int
    processes: Processes
    teacher: Teacher | None
    scales_loss: bool

    def add_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add the gradients of a batch to those of the parameters.

        Args:
            images: the share of this process, (N, C, H, W) floating point, normalized.
            labels: (N,) int64; or the probability of each class, (N, classes), whose largest counts as the label.

        Returns:
            Three sums over this process, (3,) float64, on its device: the minimized function over the parts, which is
            finite if every part is; the cross-entropy over the images, in nats; and how many images were classified
            correctly.
        """
        fabric = self.processes.fabric
        dtype = next(self.module.parameters()).dtype
        parts = list(zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True))
        sums = torch.zeros(3, dtype=torch.float64, device=labels.device)
        for number, (part, answers) in enumerate(parts, 1):
            with fabric.no_backward_sync(self.model, enabled=number < len(parts)):
                logits = self.model(part.to(dtype))
                targets = answers.to(logits.dtype) if answers.is_floating_point() else answers
                loss = F.cross_entropy(logits, targets, label_smoothing=self.stage.label_smoothing)
                answers = targets if targets.dim() == 1 else targets.argmax(1)
                learned = loss if self.teacher is None else self.teacher.loss(part, logits, loss)
                objective = learned + periodic_penalty(self.module, self.stage.periodic_penalty)
                fabric.backward(objective / len(parts))
            correct = (logits.argmax(1) == answers).sum()
            sums += torch.stack([objective.detach().double(), loss.detach().double() * len(answers), correct.double()])
        return sums

    def gradient_norm(self) -> Tensor:
        """The Euclidean norm of all gradients after `add_gradients`, a scalar; zero where a loss scaler is on.

        A loss scaler skips steps whose gradients are not finite, so that these are no error.
        """
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        if self.scales_loss or not gradients:
            return torch.zeros((), device=next(self.module.parameters()).device)
        return torch.nn.utils.get_total_norm(gradients)
