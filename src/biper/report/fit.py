"""`fit`: a network and data of your own, from objects in memory to a run folder with a packed model and a report.

It calls what `biper train` calls: `biper.training.run` trains, `biper.targets` packs, `biper.report` writes the page.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from biper.binarize.report import BinarizeReport
from biper.data.dataset import Dataset
from biper.data.given import Normalization, given_dataset
from biper.data.transforms import normalize
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError, ExportError, ModelError, RecipeError
from biper.lowering.verify import ExportReport
from biper.models.own import OWN, make_fit_, output_shape, require_outputs
from biper.models.saved import load_model
from biper.nn import binary_layers
from biper.recipes.load import load_recipe, recipe_from_document
from biper.recipes.schema import Recipe
from biper.report.analysis import analyze_run
from biper.report.run_page import write_report
from biper.report.terminal import PlainConsole
from biper.runs.folder import RunFolder
from biper.runs.records import RunSummary
from biper.targets.packed.saved import pack_loaded, require_packable
from biper.training.distributed.launch import ProcessInfo
from biper.training.options import RunOptions
from biper.training.parts import RunParts
from biper.training.progress import Progress, RichProgress
from biper.training.run import train_parts

_EXAMPLES = 64
"""How many training samples the data flow of a network is followed with."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` made.

    Attributes:
        model: the trained network, the same object that was given, in evaluation mode and in the stage it ended with.
        folder: the run folder; see `biper.runs.folder.RunFolder`.
        summary: what the run reached: the content of ``summary.json``.
        classes: the names of the classes, in the order of the labels.
        normalization: mean and standard deviation of each channel; the network takes ``(x - mean) / std``, of pixels
            scaled to [0, 1].
        packed: the packed file; None without ``pack``.
        agreement: how the packed file agrees with the network; None without ``pack``.
        report: the page about the run; None without ``report``.
        binarized: what became of each layer, if `fit` made the network binary; else None.
    """

    model: nn.Module
    folder: Path
    summary: RunSummary
    classes: tuple[str, ...]
    normalization: tuple[tuple[float, ...], tuple[float, ...]]
    packed: Path | None = None
    agreement: ExportReport | None = None
    report: Path | None = None
    binarized: BinarizeReport | None = None

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy of the final network, 0 to 1: on the test data, or without them on the training data."""
        return self.summary.final.score.accuracy

    def __str__(self) -> str:
        score = self.summary.final.score
        data = "test" if score.split == "test" else "training"
        text = f"{self.folder}: accuracy {score.accuracy:.2%} of {self.summary.scored_images:,} {data} samples"
        if self.packed is not None:
            text += f"; {self.packed.name}, {self.packed.stat().st_size:,} bytes"
        return text


def fit(
    model: nn.Module,
    train: Any,
    test: Any = None,
    *,
    recipe: str | Path | Recipe = "short",
    out: str | Path = "runs/mine",
    classes: Sequence[str] | None = None,
    normalization: Normalization = None,
    overrides: Iterable[str] = (),
    image_size: int | None = None,
    pack: bool = True,
    report: bool = True,
    progress: Progress | None = None,
    options: RunOptions | None = None,
    **changes: Any,
) -> FitResult:
    """Train a network of your own on data of your own through both stages, and pack it.

    The run is the same as that of a recipe: checkpoints, metrics, a teacher if the recipe has one, resuming to the bit,
    a report page, and a packed model that was compared with the network.

    Args:
        model: any network from samples (N, C, H, W), or signals (N, C, L), to logits (N, classes). If it has no binary
            layer, `biper.binarize_` makes it binary, with samples of the training data as its example; call it yourself
            for other choices. The network is trained in place, beginning with the weights that it has.
        train: the training data: a pair ``(samples, labels)`` of arrays or tensors; a torch data set whose samples are
            read by index, or a loader of one; a folder of class folders, or one that holds ``train/`` and ``val/``; or
            what `biper.load_dataset` gives. Samples are pixels, uint8 or pictures of Pillow; or numbers, (C, H, W), or
            (C, L) for signals. All have one size; labels are integers from 0 on. Of a loader, the data set and the
            number of workers are used; the batch size is that of the recipe.
        test: the test data, of the same kind; None scores on the training data. Test data choose nothing.
        recipe: how to train: ``"short"``, ``"quick"`` (a few epochs, to see that everything runs), the name or the file
            of any other recipe, or a `Recipe`. Its network and its data set are replaced by yours.
        out: the run folder.
        classes: the names of the classes, in the order of the labels; default those that the data know, else numbers.
        normalization: what happens to samples in front of the network: ``(mean, std)`` of each channel, of pixels
            scaled to [0, 1]; ``"train"`` measures both on the training data. Default: pixels are measured, pictures in
            folders have those of ImageNet, and numbers stay as they are.
        overrides: changes of the recipe, as ``"data.batch_size=16"`` or ``"stage1.epochs=60"``.
        image_size: height and width to which pictures in folders are resized, in pixels.
        pack: whether to pack the trained network; what cannot be packed is then an error before training.
        report: whether to write the page ``report.html``.
        progress: shows the progress of the run; default a bar with the time left, and a line for each epoch.
            ``biper.training.progress.Progress()`` shows nothing.
        options: where and how to compute; default ``RunOptions()``.
        **changes: single options that differ from ``options``, such as ``device="cpu"`` or ``resume=True``; see
            `biper.train`.

    Returns:
        The trained network, the run folder, what the run reached, and the packed file.

    Raises:
        DataError: the data are empty, or of no kind named above; or samples differ in size or are not finite; or a
            label is out of range.
        ModelError: the network does not run on the samples, or has not one output for each class, or no layer of it can
            become binary.
        ExportError: the network cannot be packed.
        BiperError: see `biper.train`.
        TypeError: there is no option of that name.
    """
    options = (options or RunOptions()).changed(changes, "fit")
    alone = ProcessInfo.from_environment().rank == 0
    progress = progress or (RichProgress(PlainConsole(soft_wrap=True)) if alone else Progress())
    wanted = _recipe(recipe, overrides)
    dataset = given_dataset(
        train,
        test,
        classes=classes,
        normalization=normalization,
        image_size=image_size or wanted.data.image_size,
        workers=options.workers,
        unreadable=UnreadableImages(wanted.data.max_unreadable, None, progress.message),
        count_outputs=lambda sample: _count_outputs(model, sample),
    )
    wanted = _for_dataset(wanted, dataset, image_size)
    examples = normalize(dataset.split("train").first(_EXAMPLES).cpu(), dataset.spec.mean, dataset.spec.std)
    binarized = _prepare_(model, examples, wanted, len(dataset.classes))
    if binarized is not None:
        progress.message(str(binarized))
    if pack:
        _require_packable(model, examples)
    initial = copy.deepcopy(model)
    factory = lambda: copy.deepcopy(initial)  # noqa: E731  what makes the network of the run, its copies and its teacher
    summary = train_parts(wanted, out, RunParts(factory, dataset), options, progress)
    folder = RunFolder(out)
    trained, info = load_model(folder.model_file, factory=factory)
    model.load_state_dict(trained.state_dict())
    model.eval()
    packed, agreement, page = folder.path / "model.biper", None, folder.path / "report.html"
    if pack and alone:
        agreement, what = pack_loaded(trained, info, dataset).write(packed)
        progress.message(f"{packed}: {agreement} (on {what})")
    if report and alone:
        write_report([analyze_run(folder.path, factory=factory, dataset=dataset)], page)
        progress.message(f"{page}: tables, plots and pictures about this run")
    return FitResult(
        model=model,
        folder=folder.path,
        summary=summary,
        classes=info.labels,
        normalization=(info.mean, info.std),
        packed=packed if pack else None,
        agreement=agreement,
        report=page if report else None,
        binarized=binarized,
    )


def _recipe(recipe: str | Path | Recipe, overrides: Iterable[str]) -> Recipe:
    """The recipe that is asked for, for a network that is given."""
    if isinstance(recipe, Recipe):
        if overrides:
            raise RecipeError("overrides=... changes a recipe that is given by its name or file, and a Recipe came")
        loaded = recipe
    else:
        loaded = load_recipe(recipe, overrides)
    document = loaded.model_dump()
    document["model"] |= {"name": OWN, "factory": None, "arguments": {}}
    if document["teacher"] is not None:
        document["teacher"]["name"] = None
    return recipe_from_document(document, str(recipe) if isinstance(recipe, str | Path) else "recipe=...")


def _for_dataset(recipe: Recipe, dataset: Dataset, image_size: int | None) -> Recipe:
    """The recipe with the data that are given."""
    document = recipe.model_dump()
    data = document["data"] | {"name": dataset.spec.name}
    if image_size is not None:
        data["image_size"] = image_size
    if dataset.test is None:
        data["evaluate_on"] = "train"
    count = len(dataset.split("train"))
    if data["batch_size"] > count:
        raise DataError(
            f"the batch size {data['batch_size']} is larger than the {count} training samples: choose a smaller one, "
            f'such as overrides=["data.batch_size={max(2, 2 ** (max(count // 4, 2).bit_length() - 1))}"]'
        )
    return recipe_from_document(document | {"data": data}, "recipe=...")


def _count_outputs(model: nn.Module, sample: Tensor) -> int:
    shape = output_shape(model, sample.repeat(2, *[1] * (sample.dim() - 1)))
    if len(shape) != 2:
        raise ModelError(f"the network gives outputs of shape {shape} for 2 samples, expected (2, classes)")
    return shape[1]


def _prepare_(model: nn.Module, examples: Tensor, recipe: Recipe, classes: int) -> BinarizeReport | None:
    """Check the network against the data, and make it binary if it is not and the recipe says so."""
    require_outputs(model, examples[:2], classes)
    settings = recipe.model
    if settings.bits == "W32A32" and binary_layers(model):
        raise ModelError(
            "model.bits is W32A32, full precision, and the network has binary layers: give it without them"
        )
    first = next(model.parameters(), None)
    on_device = examples if first is None else examples.to(first.device, first.dtype)
    return make_fit_(model, on_device, bits=settings.bits, frequency=settings.frequency, method=recipe.method)


def _require_packable(model: nn.Module, examples: Tensor) -> None:
    try:
        require_packable(model, examples[:2])
    except ExportError as error:
        raise ExportError(f"{error}. Or train without packing, pack=False") from error
