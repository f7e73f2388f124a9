"""Everything there is to say about a run folder, as plain tables."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from biper.data import load_dataset
from biper.data.specs import dataset_spec
from biper.data.transforms import normalize
from biper.errors import BiperError, CheckpointError, DataError, ModelError
from biper.lowering.verify import ExportReport
from biper.measure.activations import ActivationRow, activation_table
from biper.measure.flips import sign_agreement, stage_agreement
from biper.measure.predictions import Predictions, predict_split
from biper.measure.quantization_error import CurvePoint, ErrorRow, error_curve, error_table
from biper.measure.size import LayerSummary, model_sizes, summarize
from biper.measure.weights import Histogram, WeightRow, histogram, weight_table
from biper.models.saved import ModelInfo, load_model, load_state, save_model
from biper.nn import binary_layers, periodic_weights
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.runs.state import entries
from biper.runtime.bench import BenchReport, bench
from biper.runtime.model import Model
from biper.targets.packed.saved import export_saved

CURVE_REACH, CURVE_POINTS = 3.0, 180
"""A curve goes from next to nothing to this many times the layer's frequency, in so many points."""

GRADIENT_IMAGES = 128
"""Images that activations and gradients are looked at on."""


@dataclass(frozen=True)
class LayerWave:
    """What is drawn of a periodic layer: its weights over the wave, and its error at other frequencies."""

    layer: str
    frequency: float
    weights: Histogram
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Packed:
    """The packed model: how it compares with the model, on what, and how fast it is on one thread (None: no engine)."""

    report: ExportReport
    verified_on: str
    speed: BenchReport | None


@dataclass(eq=False)
class RunAnalysis:
    """A run, looked at. What could not be found stays empty or None, and ``notes`` say why, in a line each.

    Attributes:
        path: the run folder.
        model_of: which weights the tables are about, in words.
        history: rows of metrics.jsonl.
        layers, sizes: as `biper.measure.size` gives them.
        errors, weights, activations: of those weights, by layer.
        stage1_errors: of the weights that stage 1 ended with.
        initial_agreement: the share of signs that stage 2 took over from stage 1, by layer.
        kept: the share of them that are still the same in those weights, by layer.
        waves: what is drawn of each layer.
        scales: the learned scales of each layer's output channels.
        image_split: what the predictions and activations are on.
        gradient_images: how many of them the activations and gradients are on.
    """

    path: Path
    model_of: str = ""
    complete: bool = True
    notes: list[str] = field(default_factory=list)
    recipe: Recipe | None = None
    info: ModelInfo | None = None
    environment: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    layers: list[LayerSummary] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
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
        """Network, bits and data, as far as they are known."""
        if self.info is not None:
            return f"{self.info.name} {self.info.bits} on {self.info.dataset}"
        assert self.recipe is not None
        return f"{self.recipe.model.name} {self.recipe.model.bits} on {self.recipe.data.name}"

    @property
    def toml(self) -> str:
        """The recipe as it ran; empty for an imported model."""
        return "" if self.recipe is None else self.recipe.to_toml()

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values, but for the pictures."""
        found = {part.name: _plain(getattr(self, part.name)) for part in dataclasses.fields(self)}
        return {"title": self.title, **found}


def analyze_run(
    path: str | Path, *, data_dir: str | Path | None = None, images: int | None = None, bench_seconds: float = 0.5
) -> RunAnalysis:
    """Look at a run folder: a finished run, an unfinished one as far as it is, or an imported model.

    Args:
        path: the run folder.
        data_dir: where the data set is, see `biper.load_dataset`; without it there are no predictions.
        images: how many test images to ask about at most; default all.
        bench_seconds: about how long to time the packed model.

    Raises:
        ModelError: it is no run folder.
        CheckpointError: the metrics or the model in it are corrupt.
        RecipeError: its recipe is.
    """
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise ModelError(f"no run folder {path}: expected a folder that biper train or biper import-reference made")
    if not folder.exists() and not folder.model_file.exists():
        raise ModelError(f"{path} is not a run folder: it holds neither recipe.toml nor model.safetensors")
    found = RunAnalysis(folder.path)
    _read_records(folder, found)
    model = _model(folder, found)
    if model is not None:
        _look_at_weights(folder, found, model)
        _look_at_images(found, model, data_dir, images)
        _look_at_packed(found, model, data_dir, bench_seconds)
    return found


def _read_records(folder: RunFolder, found: RunAnalysis) -> None:
    """Recipe, metrics, summary and environment, and what their absence means."""
    if not folder.exists():
        found.notes.append("An imported model: there is no recipe, and nothing is known of its training.")
        return
    found.recipe = load_recipe(folder.recipe_file)
    try:
        found.history, found.summary = folder.read_metrics(), folder.read_summary()
        if folder.environment_file.exists():
            found.environment = json.loads(folder.environment_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"a JSON file in {folder.path} is corrupt: {error}") from error
    if found.summary is None:
        found.complete = False
        total = sum(stage.epochs for stage in found.recipe.stages)
        found.notes.append(f"This run is not finished: {len(found.history)} of {total} epochs are done.")


def _model(folder: RunFolder, found: RunAnalysis) -> nn.Module | None:
    """The furthest weights of the run, and which they are; None, and a note, if there are none."""
    if folder.model_file.exists():
        model, found.info = load_model(folder.model_file)
        found.model_of = "the final model"
        return model
    newest = folder.checkpoints.load_newest()
    if newest is None:
        found.notes.append("There is no model or checkpoint yet, so nothing to say about weights.")
        return None
    path, tensors, document = newest
    assert found.recipe is not None
    info = load_model(folder.stage_file(1))[1] if folder.stage_file(1).exists() else _described(found.recipe)
    model, position = info.create(), document["position"]
    try:
        load_state(model, entries(tensors, "model/"), str(path), info.name)
    except CheckpointError as error:  # of classes of somebody's own, whose number only stage 1's model tells
        found.notes.append(f"Nothing to say about weights before stage 1 has ended: {error}.")
        return None
    found.info, found.model_of = (
        info,
        f"the newest checkpoint, after stage {position['stage']} epoch {position['epoch']}",
    )
    if position["step"]:
        found.model_of += f" and {position['step']} steps"
    found.notes.append(f"Weights, predictions and sizes are those of {found.model_of}.")
    return model.eval()


def _described(recipe: Recipe) -> ModelInfo:
    """What a recipe and its data set tell of the model that it trains."""
    spec = dataset_spec(recipe.data.name)
    return ModelInfo(
        name=recipe.model.name,
        dataset=spec.name,
        num_classes=spec.num_classes,
        bits=recipe.model.bits,
        frequency=recipe.model.frequency,
        mean=spec.mean,
        std=spec.std,
        classes=(),
        image_size=recipe.data.image_size or 0,
    )


def _look_at_weights(folder: RunFolder, found: RunAnalysis, model: nn.Module) -> None:
    assert found.info is not None
    found.layers = summarize(model, (len(found.info.mean), found.info.image_size, found.info.image_size))
    found.sizes = model_sizes(model)
    found.errors, found.weights = error_table(model), weight_table(model)
    found.scales = {name: layer.scale.tolist() for name, layer in binary_layers(model).items()}
    steps = [CURVE_REACH * (point + 1) / CURVE_POINTS for point in range(CURVE_POINTS)]
    for name, (weight, quantizer) in periodic_weights(model).items():
        curve = error_curve(weight, [quantizer.frequency * step for step in steps])
        found.waves.append(LayerWave(name, quantizer.frequency, histogram(weight), tuple(curve)))
    if folder.stage_file(1).exists():
        first, _ = load_model(folder.stage_file(1))
        found.stage1_errors = error_table(first)
        found.initial_agreement, found.kept = stage_agreement(first), sign_agreement(first, model)
    if not found.weights:
        found.notes.append("The network has no binary layers, so there are no signs to look at.")


def _look_at_images(found: RunAnalysis, model: nn.Module, data_dir: str | Path | None, images: int | None) -> None:
    """Predictions and activations; a note where the images are not at hand."""
    info = found.info
    assert info is not None
    try:
        dataset = load_dataset(info.dataset, data_dir, image_size=info.image_size, classes=info.classes or None)
        name = "train" if dataset.test is None else "test"
        split, classes = dataset.split(name), info.labels
        if not info.classes and len(dataset.classes) == info.num_classes:
            classes = dataset.classes
        found.predictions = predict_split(model, split, info.mean, info.std, classes, limit=images)
        found.image_split = f"{info.dataset} {name} images"
        pixels, labels = next(split.in_order(GRADIENT_IMAGES))
        found.gradient_images = len(labels)
        found.activations = activation_table(model, normalize(pixels, info.mean, info.std), labels)
    except DataError as error:
        found.notes.append(f"No images, so no predictions and no activations: {error}.")


def _look_at_packed(found: RunAnalysis, model: nn.Module, data_dir: str | Path | None, seconds: float) -> None:
    """Pack the weights at hand into a temporary file, and time it."""
    assert found.info is not None
    with tempfile.TemporaryDirectory() as folder:
        saved, packed = Path(folder) / "model.safetensors", Path(folder) / "model.biper"
        try:
            save_model(saved, model, found.info)
            report, images = export_saved(saved, packed, data_dir=data_dir)
            found.packed = Packed(report, images, None)
            found.packed = Packed(report, images, bench(Model.load(packed).program, seconds=seconds))
        except BiperError as error:
            what = "timed" if found.packed else "packed"
            found.notes.append(f"The model could not be {what}: {error}.")


def _plain(value: Any) -> Any:
    """JSON values for dataclasses, arrays, paths and tuples; pixels are left out."""
    if isinstance(value, Recipe):
        return value.model_dump(mode="json")
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
