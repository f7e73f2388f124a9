"""The optimizer of a stage: which parameters decay, and which have their own learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from biper.nn import binary_layers
from biper.recipes.schema import StageRecipe
from biper.training.parameters import kinds_of_parameters


def make_optimizer(model: nn.Module, stage: StageRecipe, latent_factor: float = 1.0) -> torch.optim.Optimizer:
    """Make the optimizer of a stage, over all parameters: SGD with momentum, or AdamW.

    With ``weight_decay_on = "weights"``, the weights of convolutions and linear layers decay, latent weights included;
    biases, scales and the parameters of batch norms do not. It is short for the kinds ``("latent", "real")``.

    Args:
        model: the network.
        stage: the settings of the stage.
        latent_factor: multiplies the learning rate of latent weights, and with it their decay in one step. If it is not
            1, the parameter groups of latent weights come last and have the key ``"learning_rate_factor"``.
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if stage.weight_decay_on != "all":
        wanted = ("latent", "real") if stage.weight_decay_on == "weights" else stage.weight_decay_on
        chosen = {parameter for parameter, kind in kinds_of_parameters(model).items() if kind in wanted}
        decayed, others = _split(groups[0]["params"], chosen)
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    latent = {layer.weight for layer in binary_layers(model).values()}
    if latent_factor != 1.0 and latent:
        parts = [(group, *_split(group["params"], latent)) for group in groups]
        groups = [group | {"params": others} for group, _, others in parts]
        groups += [
            group | {"params": chosen, "learning_rate_factor": latent_factor} for group, chosen, _ in parts if chosen
        ]
    shared: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay, "fused": True}
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=stage.betas, eps=stage.epsilon, **shared)
    return torch.optim.SGD(groups, momentum=stage.momentum, **shared)


def _split(parameters: list[nn.Parameter], chosen: set[Any]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters into the chosen ones and the others; both keep their order."""
    inside = [parameter for parameter in parameters if parameter in chosen]
    return inside, [parameter for parameter in parameters if parameter not in chosen]
