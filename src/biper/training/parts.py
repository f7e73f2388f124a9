"""What a run gets as objects, where its recipe does not name it: the code of the network, and the data."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from biper.data.dataset import Dataset
from biper.errors import ModelError
from biper.models.own import OWN, Factory, find_factory
from biper.recipes.schema import Recipe


@dataclass(frozen=True)
class RunParts:
    """The parts of a run that are objects of the caller.

    Attributes:
        factory: makes the network, if it is one of the user's own.
        dataset: the data, if the caller gives them; else the recipe names them.
    """

    factory: Factory | None = None
    dataset: Dataset | None = None

    def with_recipe(self, recipe: Recipe) -> RunParts:
        """These parts, with the network that a recipe names by an import path.

        Raises:
            ModelError: the recipe is for a network of the user's own, and nothing says which; or its code cannot be
                imported.
        """
        if recipe.model.factory is not None:
            return RunParts(find_factory(recipe.model.factory, recipe.model.arguments), self.dataset)
        if recipe.model.name == OWN and self.factory is None:
            raise ModelError(
                "this recipe is for a network of your own: name its code in the recipe, as in [model] factory = "
                '"mypackage.models:make" (overrides=["model.factory=mypackage.models:make"]), or give the network to '
                "biper.fit"
            )
        return self


def describe_factory(factory: Factory | None, recipe: Recipe) -> dict[str, Any]:
    """Which code made a network of the user's own, for ``environment.json``; empty for a network of biper.

    Args:
        factory: the code; see `RunParts`.
        recipe: the recipe of the run.
    """
    if recipe.model.name != OWN:
        return {}
    if recipe.model.factory is None:
        return {"network": "given to biper.fit"}
    code: Any = getattr(factory, "func", factory)
    try:
        file = inspect.getsourcefile(inspect.unwrap(code))
    except TypeError:
        file = None
    return {"network": recipe.model.factory, "network_arguments": dict(recipe.model.arguments), "network_file": file}
