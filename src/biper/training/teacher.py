"""The teacher: a trained network whose answers another network learns from, beside the labels."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from biper.models.own import Factory
from biper.models.saved import load_model
from biper.recipes.schema import TeacherRecipe
from biper.runs.records import RunSummary, TeacherResult


class Teacher:
    """A saved network and its part of the loss; see `biper.recipes.schema.TeacherRecipe` for the formula.

    Args:
        model_file: the saved network.
        summary: what the run of the teacher reached.
        settings: the share of the teacher in the loss, and the temperature.
        fabric: the device and the precision of training.
        dtype: the dtype of the images, and of the weights of the teacher.
        factory: makes the network of the teacher, where it is one of the user's own.

    Raises:
        CheckpointError: the file is missing, corrupt, or no model.
    """

    def __init__(
        self,
        model_file: Path,
        summary: RunSummary,
        settings: TeacherRecipe,
        fabric: Fabric,
        dtype: torch.dtype,
        factory: Factory | None = None,
    ) -> None:
        module, info = load_model(model_file, factory=factory)
        self.module = module.requires_grad_(False).to(fabric.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.fabric = settings, fabric
        self.result = TeacherResult(info.name, summary.stages[0], summary.seconds)

    def loss(self, images: Tensor, logits: Tensor, own: Tensor) -> Tensor:
        """The loss of a network that learns from the teacher and from the labels.

        Args:
            images: (N, C, H, W) floating point, normalized.
            logits: what the network answers for these images, (N, classes).
            own: the cross-entropy of the network with the labels, a scalar.

        Returns:
            A scalar, differentiable in ``logits`` and ``own``.
        """
        share, temperature = self.settings.share, self.settings.temperature
        with torch.no_grad(), self.fabric.autocast():
            wanted = self.module(images)
        distance = F.kl_div(
            F.log_softmax(logits / temperature, 1),
            F.log_softmax(wanted.to(logits.dtype) / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * own + share * temperature**2 * distance
