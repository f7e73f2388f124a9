"""What can be found out about a run folder: its records, its weights, its predictions and its packed model."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from biper.data.dataset import Dataset
from biper.data.transforms import normalize
from biper.errors import BiperError, CheckpointError, DataError, ModelError
from biper.lowering.verify import ExportReport
from biper.measure.activations import ActivationRow, activation_rows
from biper.measure.flips import sign_agreement, stage_agreement
from biper.measure.predictions import Predictions, predict_split
from biper.measure.quantization_error import CurvePoint, ErrorRow, error_curve, error_rows
from biper.measure.size import LayerSummary, ModelSizes, model_sizes, summarize
from biper.measure.weights import Histogram, WeightRow, histogram, weight_rows
from biper.models.own import Factory, factory_of_run, find_factory
from biper.models.saved import ModelInfo, load_model, load_state
from biper.nn import binary_layers, periodic_weights
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.runs.records import MetricsRow, Record, RunSummary
from biper.runs.state import Position, entries, restoring
from biper.runtime.bench import BenchReport, bench
from biper.runtime.model import Model
from biper.targets.packed.saved import pack_loaded

CURVE_REACH, CURVE_POINTS = 3.0, 180
"""A curve has this many points, at frequencies up to this many times the frequency of the layer."""

GRADIENT_IMAGES = 128
"""How many images activations and gradients are measured on."""


@dataclass(frozen=True)
class LayerWave:
    """What the plots of one periodic layer show.

    Attributes:
        layer: qualified name.
        frequency: ω, in radians per unit of weight.
        weights: the distribution of the latent weights.
        curve: the quantization error that these weights would have at other frequencies.
    """

    layer: str
    frequency: float
    weights: Histogram
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Packed:
    """The packed form of the model.

    Attributes:
        report: how the outputs of the packed model compare with those of the model.
        verified_on: the images of this comparison, in words.
        speed: how fast the packed model runs on one thread; None if it could not be timed.
    """

    report: ExportReport
    verified_on: str
    speed: BenchReport | None


@dataclass(eq=False)
class RunAnalysis:
    """What was found out about one run. What could not be found is empty or None, and ``notes`` gives the reason.

    Attributes:
        path: the run folder.
        model_of: the weights that were analyzed, in words: the final model, or a checkpoint.
        complete: whether the run has finished.
        notes: what could not be found, and why; a sentence each.
        recipe: the recipe that was trained; None for an imported model.
        info: the description of the model.
        environment: where the run was trained.
        summary: what the run reached; None if it has not finished.
        history: one row for each finished epoch.
        layers: the layers of the network, with their shapes and sizes.
        sizes: the sizes of the whole model.
        errors: the quantization errors of each periodic layer.
        stage1_errors: the same for the weights that stage 1 ended with.
        weights: signs and scales of each binary layer.
        activations: inputs and gradients of each binary layer.
        initial_agreement: the share of signs that stage 2 took over from stage 1, by layer.
        kept: the share of the signs at the end of stage 1 that the analyzed weights still have, by layer.
        waves: what the plots of each periodic layer show.
        scales: the learned scales of the output channels of each binary layer.
        predictions: the predictions for the images of a split.
        image_split: the images of the predictions and activations, in words.
        gradient_images: how many of these images the activations and gradients were measured on.
        packed: the packed form of the model.
    """

    path: Path
    model_of: str = ""
    complete: bool = True
    notes: list[str] = field(default_factory=list)
    recipe: Recipe | None = None
    info: ModelInfo | None = None
    environment: dict[str, Any] | None = None
    summary: RunSummary | None = None
    history: list[MetricsRow] = field(default_factory=list)
    layers: list[LayerSummary] = field(default_factory=list)
    sizes: ModelSizes | None = None
    errors: list[ErrorRow] = field(default_factory=list)
    stage1_errors: list[ErrorRow] = field(default_factory=list)
    weights: list[WeightRow] = field(default_factory=list)
    activations: list[ActivationRow] = field(default_factory=list)
    initial_agreement: dict[str, float] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    waves: list[LayerWave] = field(default_factory=list)
    scales: dict[str, list[float]] = field(default_factory=dict)
    predictions: Predictions | None = None
    image_split: str = ""
    gradient_images: int = 0
    packed: Packed | None = None

    @property
    def title(self) -> str:
        """The network, its bits and the data set."""
        if self.info is not None:
            return f"{self.info.name} {self.info.bits} on {self.info.dataset}"
        assert self.recipe is not None
        return f"{self.recipe.model.name} {self.recipe.model.bits} on {self.recipe.data.name}"

    @property
    def times_smaller(self) -> float | None:
        """How many times smaller the packed file is than the model in float32; None without a packed form."""
        if self.packed is None or self.sizes is None:
            return None
        return self.sizes.float_bytes / self.packed.report.file_bytes

    @property
    def toml(self) -> str:
        """The recipe as TOML; empty for an imported model."""
        return "" if self.recipe is None else self.recipe.to_toml()

    def to_json(self) -> dict[str, Any]:
        """The analysis as plain JSON values, without the pixels of pictures."""
        found = {part.name: _plain(getattr(self, part.name)) for part in dataclasses.fields(self)}
        return {"title": self.title, **found, "sizes": {} if self.sizes is None else self.sizes.to_json()}


@dataclass(frozen=True)
class _Sources:
    """Where the code of the network and the data come from."""

    factory: Factory | None
    dataset: Dataset | None
    data_dir: str | Path | None


def analyze_run(
    path: str | Path,
    *,
    data_dir: str | Path | None = None,
    images: int | None = None,
    bench_seconds: float = 0.5,
    factory: str | Factory | None = None,
    dataset: Dataset | None = None,
) -> RunAnalysis:
    """Analyze a run folder: a finished run, an unfinished run, or an imported model.

    Args:
        path: the run folder.
        data_dir: the folder of the data set, see `biper.load_dataset`. Without the data set there are no predictions.
        images: predict at most this many test images; default all.
        bench_seconds: about how many seconds to time the packed model.
        factory: the code of a network of your own, see `biper.load_model`.
        dataset: the data, where they are objects; default those that the run names.

    Returns:
        What was found out. For an unfinished run it describes the newest checkpoint.

    Raises:
        ModelError: the path is no run folder.
        CheckpointError: the metrics, the summary or the model are corrupt.
        RecipeError: the recipe is not valid.
        ModelError: the code of a network of your own is not given, or cannot be imported.
    """
    folder = require_run(path)
    if not callable(factory):
        factory = factory_of_run(folder.model_file) if factory is None else find_factory(factory)
    source = _Sources(factory, dataset, data_dir)
    found = RunAnalysis(folder.path)
    _read_records(folder, found)
    model = _model(folder, found, source)
    if model is not None:
        _analyze_weights(folder, found, model, source)
        data = _analyze_images(found, model, source, images)
        _analyze_packed(found, model, data, bench_seconds)
    return found


def require_run(path: str | Path) -> RunFolder:
    """The folder of a run or of an imported model.

    Raises:
        ModelError: the path is no such folder.
    """
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise ModelError(f"no run folder {path}: expected a folder of a trained run or of an imported model")
    if not folder.exists() and not folder.model_file.exists():
        raise ModelError(f"{path} is not a run folder: it holds neither recipe.toml nor model.safetensors")
    return folder


def _read_records(folder: RunFolder, found: RunAnalysis) -> None:
    """Read the recipe, the metrics, the summary and the environment, and note what is missing."""
    if not folder.exists():
        found.notes.append("This is an imported model: it has no recipe, and nothing is known about its training.")
        return
    found.recipe = load_recipe(folder.recipe_file)
    found.history, found.summary = folder.read_metrics(), folder.read_summary()
    found.environment = folder.read_environment()
    if found.summary is None:
        found.complete = False
        total = sum(stage.epochs for stage in found.recipe.stages)
        found.notes.append(f"This run is not finished: {len(found.history)} of {total} epochs are done.")


def _model(folder: RunFolder, found: RunAnalysis, source: _Sources) -> nn.Module | None:
    """The newest weights of the run; None, and a note, if there are none yet."""
    if folder.model_file.exists():
        model, found.info = load_model(folder.model_file, factory=source.factory)
        found.model_of = "the final model"
        return model
    newest = folder.checkpoints.load_newest()
    if newest is None:
        found.notes.append("There is no model or checkpoint yet, so that the weights cannot be analyzed.")
        return None
    path, tensors, document = newest
    assert found.recipe is not None
    spec, classes = folder.read_facts() or (None, ())
    info = ModelInfo.of_recipe(found.recipe, classes, spec)
    if folder.stage_file(1).exists():
        _, info = load_model(folder.stage_file(1), factory=source.factory)
    with restoring(path):
        model, position = info.create(source.factory), Position.from_json(document["position"])
    try:
        load_state(model, entries(tensors, "model/"), str(path), info.name)
    except CheckpointError as error:  # only a saved model has the number of classes of the user's own data
        found.notes.append(f"The weights cannot be analyzed before stage 1 has ended: {error}.")
        return None
    found.info = info
    found.model_of = f"the newest checkpoint, after stage {position.stage} epoch {position.epoch}"
    if position.step:
        found.model_of += f" and {position.step} steps"
    found.notes.append(f"Weights, predictions and sizes are those of {found.model_of}.")
    return model.eval()


def _analyze_weights(folder: RunFolder, found: RunAnalysis, model: nn.Module, source: _Sources) -> None:
    """Measure the layers, their errors, signs and scales, and compare them with the end of stage 1."""
    assert found.info is not None
    found.layers = summarize(model, found.info.shape)
    found.sizes = model_sizes(model)
    found.errors, found.weights = error_rows(model), weight_rows(model)
    found.scales = {name: layer.scale.tolist() for name, layer in binary_layers(model).items()}
    steps = [CURVE_REACH * (point + 1) / CURVE_POINTS for point in range(CURVE_POINTS)]
    for name, (weight, quantizer) in periodic_weights(model).items():
        frequency = quantizer.frequency_of(weight).mean().item()
        if not quantizer.has_fixed_frequency and frequency > 0:
            weight = quantizer.phase(weight.detach()) / frequency  # so that one wave fits all channels
        curve = error_curve(weight, [frequency * step for step in steps])
        found.waves.append(LayerWave(name, frequency, histogram(weight), tuple(curve)))
    if folder.stage_file(1).exists():
        first, _ = load_model(folder.stage_file(1), factory=source.factory)
        found.stage1_errors = error_rows(first)
        found.initial_agreement, found.kept = stage_agreement(first), sign_agreement(first, model)
    if not found.weights:
        found.notes.append("The network has no binary layers, so that there are no signs to analyze.")


def _analyze_images(found: RunAnalysis, model: nn.Module, source: _Sources, images: int | None) -> Dataset | None:
    """Predict the test images and measure the activations; add a note if the images cannot be loaded.

    Returns:
        The data; None if they cannot be loaded.
    """
    info = found.info
    assert info is not None
    try:
        dataset = source.dataset or info.load_dataset(source.data_dir)
        name = "train" if dataset.test is None else "test"
        split, classes = dataset.split(name), info.labels
        if not info.classes and len(dataset.classes) == info.num_classes:
            classes = dataset.classes
        found.predictions = predict_split(model, split, info.mean, info.std, classes, limit=images)
        found.image_split = f"{info.dataset} {name} images"
        pixels, labels = next(split.in_order(GRADIENT_IMAGES))
        found.gradient_images = len(labels)
        found.activations = activation_rows(model, normalize(pixels, info.mean, info.std), labels)
    except DataError as error:
        found.notes.append(f"Without images there are no predictions and no activations: {error}.")
        return None
    return dataset


def _analyze_packed(found: RunAnalysis, model: nn.Module, data: Dataset | None, seconds: float) -> None:
    """Pack the model into a temporary file, and time it."""
    assert found.info is not None
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "model.biper"
        try:
            report, images = pack_loaded(model, found.info, data).write(packed)
            found.packed = Packed(report, images, None)
            found.packed = Packed(report, images, bench(Model.load(packed).program, seconds=seconds))
        except BiperError as error:
            what = "timed" if found.packed else "packed"
            found.notes.append(f"The model could not be {what}: {error}.")


def _plain(value: Any) -> Any:
    """A value as JSON values; arrays become lists, dataclasses become objects, and pixels are left out."""
    if isinstance(value, Recipe):
        return value.model_dump(mode="json")
    if isinstance(value, Record):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in _fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for part in dataclasses.fields(value):
        if part.name != "pixels":
            yield part.name, getattr(value, part.name)
