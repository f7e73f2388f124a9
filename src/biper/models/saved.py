"""Models on disk: one file holds the weights and the description from which the network is made again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from biper.data.specs import dataset_spec
from biper.errors import BiperError, CheckpointError
from biper.io.tensors import load_tensors, save_tensors
from biper.models import create_model

if TYPE_CHECKING:
    from biper.recipes.schema import Recipe

FORMAT = "biper model 1"

MODEL_FILE = "model.safetensors"
"""The name of the file of the final model in a run folder, and of an imported model."""


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, which is saved with its weights.

    Attributes:
        name: the name of the network; see `biper.create_model`.
        dataset: the name of the data set, which decides the form of the network.
        num_classes: how many classes the model has.
        bits: ``"W1A1"``, ``"W1A32"`` or ``"W32A32"``: the bits of weights and activations.
        frequency: ω of the binary layers, in radians per unit of latent weight.
        mean: the mean that images are normalized with, one number for each channel.
        std: the standard deviation that images are normalized with, one number for each channel.
        classes: the names of the classes in the order of the labels; empty if they are not known.
        details: further facts, such as the checkpoint that the model was imported from.
        image_size: height and width of the images that the model was trained on, in pixels; 0 stands for the size of
            the data set.
        method: how weights and inputs become bits: the name of a method and its options, see
            `biper.methods.settings`.
    """

    name: str
    dataset: str
    num_classes: int
    bits: str
    frequency: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)
    image_size: int = 0
    method: dict[str, Any] = field(default_factory=lambda: {"name": "biper"})

    def __post_init__(self) -> None:
        if not self.image_size:
            object.__setattr__(self, "image_size", dataset_spec(self.dataset).image_size)

    @classmethod
    def of_recipe(cls, recipe: Recipe, classes: tuple[str, ...] = ()) -> ModelInfo:
        """The description of the model that a recipe trains.

        Args:
            recipe: the recipe.
            classes: the names of the classes that were found in the data; without them the model has as many classes
                as the specification of its data set says.

        Raises:
            DataError: the recipe names a data set that does not exist.
        """
        spec = dataset_spec(recipe.data.name)
        return cls(
            name=recipe.model.name,
            dataset=spec.name,
            num_classes=len(classes) or spec.num_classes,
            bits=recipe.model.bits,
            frequency=recipe.model.frequency,
            mean=spec.mean,
            std=spec.std,
            classes=classes,
            image_size=recipe.data.image_size or spec.image_size,
            method=recipe.method.model_dump(),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers if the names are not known."""
        return self.classes or tuple(map(str, range(self.num_classes)))

    def create(self) -> nn.Module:
        """Make the network, with random weights."""
        return create_model(
            self.name,
            dataset=self.dataset,
            num_classes=self.num_classes,
            bits=self.bits,
            frequency=self.frequency,
            method=self.method,
        )


def save_model(path: str | Path, model: nn.Module, info: ModelInfo) -> None:
    """Write the weights of a model and its description to one safetensors file, atomically.

    Args:
        path: the file to write.
        model: the network.
        info: its description, from which `load_model` makes the network again.

    Raises:
        CheckpointError: the file could not be written.
    """
    save_tensors(Path(path), model.state_dict(), {"format": FORMAT, "info": asdict(info)})


def load_model(path: str | Path) -> tuple[nn.Module, ModelInfo]:
    """Make the network of a saved model and load its weights.

    Args:
        path: a file that `save_model` or a run wrote.

    Returns:
        The network on the CPU in evaluation mode, with the stage and the frequencies that were saved; and its
        description.

    Raises:
        CheckpointError: the file is missing, corrupt or no model, or its weights do not fit its network.
    """
    tensors, document = load_tensors(Path(path))
    if document.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds {document.get('format')!r}, expected {FORMAT!r}")
    try:
        fields = dict(document["info"])
        for name in ("mean", "std", "classes"):
            fields[name] = tuple(fields[name])
        info = ModelInfo(**fields)
        model = info.create()
    except (KeyError, TypeError, BiperError) as error:
        raise CheckpointError(f"{path} describes no network that this version knows: {error}") from error
    load_state(model, tensors, str(path), info.name)
    return model.eval(), info


def load_state(model: nn.Module, tensors: dict[str, Any], source: str, expected: str) -> None:
    """Load weights into a network, with an error of one line if they do not fit.

    Args:
        model: the network.
        tensors: the weights by their names.
        source: where the weights come from, for the error message.
        expected: the name of the network, for the error message.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        reason = first[0][:200] if first else str(error)
        raise CheckpointError(f"{source} holds weights of another model, not of {expected}: {reason}") from error
