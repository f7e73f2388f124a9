"""What a trained network adds to the loss of another: how far the answers of the two are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from biper.models.saved import load_model
from biper.recipes.schema import TeacherRecipe


class Teacher:
    """A saved network that others learn from; see `TeacherRecipe` for the formula.

    Args:
        run: the summary of its run, see `biper.train`.
        settings: its share of the loss, and the temperature.
        fabric: the device and the precision of training.
        dtype: of the images.

    Raises:
        CheckpointError: the file is missing, corrupt, or something else.
    """

    def __init__(self, run: Mapping[str, Any], settings: TeacherRecipe, fabric: Fabric, dtype: torch.dtype) -> None:
        module, info = load_model(run["model"])
        self.module = module.requires_grad_(False).to(fabric.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings, self.fabric = settings, fabric
        self.summary = {"name": info.name, **run["stage1"], "seconds": run["seconds"]}
        """What the network reached, and the seconds that it took."""

    def loss(self, images: Tensor, logits: Tensor, own: Tensor) -> Tensor:
        """The loss of a network that says ``logits`` (N, classes) of ``images`` and whose cross-entropy is ``own``."""
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
