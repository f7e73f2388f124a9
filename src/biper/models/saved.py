"""Models on disk: one file holds the weights and the description from which the network is made again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biper.data import load_dataset
from biper.data.dataset import Dataset
from biper.data.specs import SIGNALS, DatasetSpec, dataset_spec
from biper.errors import BiperError, CheckpointError, ModelError
from biper.io.container import container_format
from biper.io.tensors import load_tensors, save_tensors
from biper.io.toml import shortened
from biper.models import create_model
from biper.models.own import OWN, Factory, factory_of_run, find_factory, make_own

if TYPE_CHECKING:
    from biper.recipes.schema import Recipe

FORMAT = "biper model 1"

FEW_CLASSES = 4_096
MAX_CLASSES = 1 << 20
MAX_SIDE = 1 << 16
MAX_SAMPLE = 1 << 26
"""Of a model that is read from a file: the classes that are made without looking, the most classes, the largest side,
and the most numbers of one sample."""


def _is_integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_list(kind: Callable[[Any], bool], most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(kind, value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "a text"),
    "dataset": (_is_text, "a text"),
    "bits": (_is_text, "a text"),
    "num_classes": (_is_integer(1, MAX_CLASSES), f"an integer from 1 to {MAX_CLASSES:,}"),
    "frequency": (lambda value: _is_number(value) and value > 0, "a positive number"),
    "mean": (_is_list(_is_number, MAX_SIDE), "a list of numbers"),
    "std": (_is_list(_is_number, MAX_SIDE), "a list of numbers"),
    "classes": (_is_list(_is_text, MAX_CLASSES), "a list of texts"),
    "details": (lambda value: isinstance(value, dict), "an object"),
    "image_size": (_is_integer(0, MAX_SIDE), f"an integer from 0 to {MAX_SIDE:,}"),
    "method": (lambda value: isinstance(value, dict), "an object"),
    "input_shape": (
        lambda value: _is_list(_is_integer(1, 1 << 24), 3)(value) and math.prod(value) <= MAX_SAMPLE,
        f"up to 3 integers with a product of at most {MAX_SAMPLE:,}",
    ),
}
"""What each field of a saved description must be, and how an error says it."""

_OPTIONAL: dict[str, Any] = {"details": {}, "image_size": 0, "method": {}}

MODEL_FILE = "model.safetensors"
"""The name of the file of the final model in a run folder, and of an imported model."""


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, which is saved with its weights.

    Attributes:
        name: the name of the network, see `biper.create_model`; ``"own"`` for a network of your own.
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
        input_shape: the shape of one sample, (C, H, W), or (C, L) for signals, where the data set does not say it:
            for your own data. Empty where it does.
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
    input_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise ModelError(
                f"expected finite numbers for mean and std, and std above 0; got mean {self.mean} and std {self.std}"
            )
        if not self.image_size and self.input_shape:
            object.__setattr__(self, "image_size", self.input_shape[-1])
        elif not self.image_size:
            object.__setattr__(self, "image_size", dataset_spec(self.dataset).image_size)

    @classmethod
    def of_recipe(cls, recipe: Recipe, classes: tuple[str, ...] = (), spec: DatasetSpec | None = None) -> ModelInfo:
        """The description of the model that a recipe trains.

        Args:
            recipe: the recipe.
            classes: the names of the classes that were found in the data; without them the model has as many classes
                as the specification of its data set says.
            spec: the specification of the data; default that of the data set that the recipe names.

        Raises:
            DataError: the recipe names a data set that does not exist, or whose specification is in its files.
        """
        spec = spec or dataset_spec(recipe.data.name)
        details: dict[str, Any] = {"seed": recipe.seed} if recipe.model.name == OWN else {}
        if spec.name == SIGNALS:
            details["signal_fit"] = recipe.data.signal_fit
        return cls(
            name=recipe.model.name,
            dataset=spec.name,
            num_classes=len(classes) or spec.num_classes,
            bits=recipe.model.bits,
            frequency=recipe.model.frequency,
            mean=spec.mean,
            std=spec.std,
            classes=classes,
            details=details,
            image_size=recipe.data.image_size or spec.image_size,
            method=recipe.method.model_dump(),
            input_shape=spec.own_shape,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers if the names are not known."""
        return self.classes or tuple(map(str, range(self.num_classes)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample as the network takes it, (C, H, W), or (C, L) for signals."""
        return self.input_shape or (len(self.mean), self.image_size, self.image_size)

    def load_dataset(self, data_dir: str | Path | None = None, *, workers: int | None = None) -> Dataset:
        """The data set of the model, in the size that the model takes; see `biper.load_dataset`.

        Raises:
            DataError: the data cannot be found, or were given to `biper.fit` as objects.
        """
        return load_dataset(
            self.dataset,
            data_dir,
            image_size=self.image_size,
            classes=self.labels,
            workers=workers,
            signal_length=self.image_size,
            signal_fit=self.details.get("signal_fit", "pad"),
        )

    def create(self, factory: Factory | None = None) -> nn.Module:
        """Make the network, with random weights.

        Args:
            factory: makes a network of your own, which `ModelInfo` cannot name.

        Raises:
            ModelError: this is a network of your own and there is no factory, or it cannot make the network.
        """
        if self.name == OWN:
            if factory is None:
                raise ModelError(
                    "this is a network of your own, and nothing says which code makes it: name it with "
                    'factory=..., as in biper.load_model(path, factory="mypackage.models:make"); its packed file, '
                    "model.biper of a run, needs no code"
                )
            return make_own(
                factory,
                bits=self.bits,
                frequency=self.frequency,
                method=self.method,
                shape=self.shape,
                seed=self.details.get("seed", 0),
            )
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
    described = asdict(info)
    if not info.input_shape:  # a key that older versions do not know is written only where it says something
        del described["input_shape"]
    save_tensors(Path(path), model.state_dict(), {"format": FORMAT, "info": described})


def load_model(path: str | Path, *, factory: str | Factory | None = None) -> tuple[nn.Module, ModelInfo]:
    """Make the network of a saved model and load its weights.

    Args:
        path: a file that `save_model` or a run wrote.
        factory: the code that makes a network of your own: a function without arguments, or an import path
            ``"module:name"``. The file of the weights never names code. Default the ``factory`` of the recipe in the
            folder of the file, which is that of the run.

    Returns:
        The network on the CPU in evaluation mode, with the stage and the frequencies that were saved; and its
        description.

    Raises:
        CheckpointError: the file is missing, corrupt or no model, or its weights do not fit its network.
        ModelError: it is a network of your own, and its code is not given, or cannot be imported, or fails.
    """
    other = container_format(Path(path))  # first, because files of other formats have tensors of other types
    if other not in (None, FORMAT):
        raise CheckpointError(f"{path} holds {other!r}, expected {FORMAT!r}")
    tensors, document = load_tensors(Path(path))
    if document.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds {document.get('format')!r}, expected {FORMAT!r}")
    info = _read_info(path, document)
    if info.name == OWN and factory is None:
        factory = factory_of_run(Path(path))
    elif isinstance(factory, str):
        factory = find_factory(factory)
    try:
        if info.name != OWN:
            last = "the last layer, fc.weight,"
            require_classes(last, tensors.get("fc.weight"), info.num_classes, partial(_with_classes, info))
        model = info.create(factory)
    except (TypeError, BiperError) as error:
        if info.name == OWN:
            raise ModelError(f"{path}: {error}") from error
        raise _unknown_network(path, error) from error
    load_state(model, tensors, str(path), info.name)
    return model.eval(), info


def _with_classes(info: ModelInfo, num_classes: int) -> nn.Module:
    return replace(info, num_classes=num_classes).create()


def require_classes(source: str, weight: Any, num_classes: int, make: Callable[[int], nn.Module]) -> None:
    """Check that the last layer in a file has as many classes as a network is about to be made for.

    Otherwise a small file could ask for a layer that takes all the memory. Few classes take little in any case.

    Args:
        source: where the weights come from, for the error message.
        weight: those of the last layer, ``fc.weight`` (classes, features).
        num_classes: the number of classes.
        make: makes the network for a number of classes.

    Raises:
        CheckpointError: the weight has another shape than the network has.
    """
    if num_classes <= FEW_CLASSES:
        return
    expected = (num_classes, make(2).state_dict()["fc.weight"].shape[1])
    found = tuple(weight.shape) if isinstance(weight, Tensor) else "no tensor"
    if found != expected:
        raise CheckpointError(f"{source} should have the shape {expected} for {num_classes:,} classes, got {found}")


def _read_info(path: str | Path, document: Mapping[str, Any]) -> ModelInfo:
    """The description in the document of a model file."""
    try:
        fields = {"input_shape": [], **document["info"]}
        for name, (valid, expected) in _FIELDS.items():
            if not valid(fields[name] if name not in _OPTIONAL else fields.get(name, _OPTIONAL[name])):
                raise TypeError(f"expected {expected} as {name}, got {shortened(repr(fields[name]))}")
        for name in ("mean", "std", "classes", "input_shape"):
            fields[name] = tuple(fields[name])
        return ModelInfo(**fields)
    except (KeyError, TypeError, BiperError) as error:
        raise _unknown_network(path, error) from error


def _unknown_network(path: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} describes no network that this version knows: {error}")


def load_state(model: nn.Module, tensors: dict[str, Any], source: str, expected: str) -> None:
    """Load weights into a network, with an error of one line if they do not fit, or are not finite.

    Args:
        model: the network.
        tensors: the weights by their names.
        source: where the weights come from, for the error message.
        expected: the name of the network, for the error message.

    Raises:
        CheckpointError: names or shapes differ, or a weight or buffer is NaN or infinite.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{source} holds values in {name} that are NaN or infinite")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        reason = first[0][:200] if first else str(error)
        raise CheckpointError(f"{source} holds weights of another model, not of {expected}: {reason}") from error
