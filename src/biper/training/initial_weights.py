"""The weights that a run begins with: those of another model, or those of a checkpoint that belongs to the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from biper.errors import CheckpointError, ModelError, RecipeError
from biper.methods.settings import read_method
from biper.models.own import Factory
from biper.models.saved import ModelInfo, load_model, load_state
from biper.nn import set_stage_
from biper.recipes.schema import ModelRecipe, Recipe
from biper.runs.folder import model_file_of


def take_weights_(module: nn.Module, info: ModelInfo, path: Path, stage: int, factory: Factory | None = None) -> None:
    """Load the weights of a saved model of the same network, in place.

    Parameters of quantizers are taken where both models have them, so that the methods of the two may differ.

    Args:
        module: the network that takes the weights.
        info: its description.
        path: a model file or a run folder.
        stage: the stage that the network is in afterwards, 1 or 2.
        factory: makes the network, where it is one of the user's own.

    Raises:
        CheckpointError: the file is missing or corrupt, or holds another network.
    """
    model, found = load_model(model_file_of(path), factory=factory)
    for key in ("name", "bits", "frequency", "num_classes"):
        has, wanted = getattr(found, key), getattr(info, key)
        if has != wanted:
            raise CheckpointError(f"{path} has {key} {has!r}, the recipe {wanted!r}: they must be the same")
    theirs, ours = model.state_dict(), module.state_dict()
    taken = {name: value for name, value in theirs.items() if name in ours or "_quantizer." not in name}
    kept = {name: value for name, value in ours.items() if name not in theirs and "_quantizer." in name}
    load_state(module, taken | kept, str(path), info.name)
    set_stage_(module, stage)


def check_checkpoint(path: Path, document: dict[str, Any], recipe: Recipe, training_images: int) -> None:
    """Check that a checkpoint belongs to a run of a recipe on the data at hand.

    Args:
        path: the file of the checkpoint.
        document: its document.
        recipe: the recipe of the run.
        training_images: how many training images the run has.

    Raises:
        CheckpointError: the checkpoint is of another model, or of another number of training images.
    """
    try:
        was, method = ModelRecipe(**document["recipe"]["model"]), read_method(document["recipe"].get("method"))
    except (RecipeError, ModelError) as error:
        raise CheckpointError(f"{path} holds no recipe of a run: {error}") from error
    now = recipe.model
    if (was, method) != (now, recipe.method):
        raise CheckpointError(f"{path} is a checkpoint of another model: expected {now}, got {was}")
    trained = document.get("training_images")
    if trained not in (None, training_images):
        raise CheckpointError(
            f"{path} is of a run on {trained:,} training images, here are {training_images:,}: resume with the same "
            "images, data_dir=..."
        )
