"""A training step as a researcher writes it first: float32, NCHW, the formulas in operators of torch.

`benchmarks/training.py` times it beside the step of biper.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.models import create_model
from biper.nn import BinaryConv2d
from biper.recipes.schema import Recipe

Step = Callable[[], object]


class PlainSine(torch.autograd.Function):
    """The function sin(ω w) or its sign, with the gradient ω cos(ω w)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, frequency: float, stage: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.frequency = frequency
        wave = torch.sin(frequency * weight)
        return wave if stage == 1 else torch.where(wave >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grad * ctx.frequency * torch.cos(ctx.frequency * weight), None, None


class PlainSign(torch.autograd.Function):
    """The sign, with the gradient max(0, 2 - 2|x|)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.clamp(2 - 2 * x.abs(), min=0)


class PlainConvolution(nn.Module):
    """A binary convolution, written with the formulas."""

    def __init__(self, layer: BinaryConv2d, frequency: float, stage: int) -> None:
        super().__init__()
        self.weight, self.scale = layer.weight, layer.scale
        self.stride, self.padding = layer.stride, layer.padding
        self.frequency, self.stage = frequency, stage

    def forward(self, x: Tensor) -> Tensor:
        x = x / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)
        weight = PlainSine.apply(self.weight, self.frequency, self.stage)
        return F.conv2d(PlainSign.apply(x), weight, None, self.stride, self.padding) * self.scale.view(1, -1, 1, 1)


def plain_model(recipe: Recipe, stage: int) -> nn.Module:
    """The network of a recipe with plain binary convolutions."""
    model = create_model(recipe.model.name, dataset=recipe.data.name)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BinaryConv2d):
                setattr(module, name, PlainConvolution(child, recipe.model.frequency, stage))
    return model


def plain_step(
    recipe: Recipe,
    stage: int,
    images: Tensor,
    labels: Tensor,
    precision_context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Step:
    """Make a training step that is written with the formulas, on the device of the images.

    Args:
        recipe, stage: give the network and the optimizer.
        images, labels: the batch of all steps.
        precision_context: is entered for the forward pass; default the precision of the images.
    """
    model, settings = plain_model(recipe, stage).to(images.device), recipe.stages[stage - 1]
    latent = [module.weight for module in model.modules() if isinstance(module, PlainConvolution)]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )

    def step() -> None:
        os.environ["BIPER_KERNELS"] = "0"
        optimizer.zero_grad()
        with precision_context():
            loss = F.cross_entropy(model(images), labels)
        for weight in latent:
            loss = loss + settings.periodic_penalty * torch.mean(torch.sin(recipe.model.frequency * weight) ** 2)
        loss.backward()
        optimizer.step()
        del os.environ["BIPER_KERNELS"]

    return step
