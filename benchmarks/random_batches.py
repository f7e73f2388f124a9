"""Random images of the size that a recipe has, for scripts that measure the speed of training."""

from __future__ import annotations

import torch
from torch import Tensor

from biper.data.dataset import Split
from biper.data.specs import dataset_spec
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe


def recipe_of(network: str) -> Recipe:
    """The recipe that RECIPE=BATCH names."""
    name, _, batch = network.partition("=")
    return load_recipe(name, [f"data.batch_size={batch}"])


def random_images(recipe: Recipe, count: int) -> Split:
    """Random images of the size that a recipe has."""
    spec = dataset_spec(recipe.data.name)
    size = recipe.data.image_size or spec.image_size
    images = torch.randint(256, (count, size, size, spec.channels), dtype=torch.uint8)
    return Split(images, torch.randint(spec.num_classes, (count,)))


def inputs_of(split: Split) -> tuple[Tensor, Tensor]:
    """The images as a model takes them, from -2 to 2, and their labels."""
    images = split.images.float().div_(64).sub_(2).permute(0, 3, 1, 2)
    return images.contiguous(), split.labels
