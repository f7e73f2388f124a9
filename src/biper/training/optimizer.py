"""The optimizer of a stage, and which parameters its weight decay is for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from biper.recipe import StageRecipe


def make_optimizer(model: nn.Module, stage: StageRecipe) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum over all parameters.

    With ``weight_decay_on = "weights"`` the weights of convolutions and linear layers (latent ones too) decay; biases,
    scales and the parameters of batch norms do not.
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if stage.weight_decay_on == "weights":
        weights = {module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        decayed = [parameter for parameter in model.parameters() if parameter in weights]
        others = [parameter for parameter in model.parameters() if parameter not in weights]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups, lr=stage.learning_rate, momentum=stage.momentum, weight_decay=stage.weight_decay, fused=True
    )
