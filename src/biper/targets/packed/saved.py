"""Packs a saved model, and compares it with its packed program on images of its own data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biper.data import load_dataset
from biper.data.specs import GIVEN, SIGNALS, dataset_spec
from biper.data.transforms import evaluation_preprocessing, normalize
from biper.errors import DataError
from biper.io.files import atomic_write
from biper.lowering.verify import ExportReport
from biper.models.saved import load_model
from biper.nn import set_stage_
from biper.targets.packed.export import pack

VERIFIED_IMAGES = 64
"""On how many images a model and its packed program are compared."""


@dataclass(frozen=True)
class PackedModel:
    """A saved model, packed.

    Attributes:
        blob: the content of the packed file.
        report: what was compared and found.
        images: (N, C, H, W) the normalized images that were compared.
        what: what these images are, for people.
    """

    blob: bytes
    report: ExportReport
    images: NDArray[np.float32]
    what: str


def export_saved(
    model_file: str | Path, out: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> tuple[ExportReport, str]:
    """Write what `pack_saved` makes.

    Args:
        model_file, data_dir, float_layers: see `pack_saved`.
        out: the packed file to write.

    Returns:
        The report, and on which images it was made.

    Raises:
        CheckpointError, ExportError: see `pack_saved`.
    """
    packed = pack_saved(model_file, data_dir=data_dir, float_layers=float_layers)
    atomic_write(Path(out), packed.blob)
    return packed.report, packed.what


def pack_saved(
    model_file: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> PackedModel:
    """Pack a model that `biper.save_model` or a run wrote.

    Its binary layers are put into stage 2. The model and the program are compared on the first 64 test images of its
    data set, on training images where there is no test set, or on random images where the data set is not there. A
    model without class names, as an imported one, gets those of the data set.
    The preprocessing in the file is that of evaluation.

    Args:
        model_file: the saved model.
        data_dir: where its data set lies; None for the default place.
        float_layers: see `biper.export`.

    Raises:
        CheckpointError: the model cannot be read.
        ExportError: it cannot be exported.
    """
    model, info = load_model(model_file)
    classes = info.classes
    set_stage_(model, "binary")
    try:
        dataset = load_dataset(info.dataset, data_dir, image_size=info.image_size, classes=info.labels)
        split = "train" if dataset.test is None else "test"
        pixels = dataset.split(split).first(VERIFIED_IMAGES)
        images, what = normalize(pixels, info.mean, info.std), f"{info.dataset} {split} images"
        if not classes and len(dataset.classes) == info.num_classes:
            classes = dataset.classes
    except DataError:
        size = info.image_size
        shape = (VERIFIED_IMAGES, len(info.mean), size, size)
        images, what = torch.randn(shape, generator=torch.Generator().manual_seed(0)), "random images"
    blob, report = pack(
        model,
        images,
        classes=classes,
        normalization=(info.mean, info.std),
        preprocessing=None
        if info.dataset in (SIGNALS, GIVEN)
        else evaluation_preprocessing(dataset_spec(info.dataset), info.image_size),
        float_layers=float_layers,
    )
    return PackedModel(blob, report, images.cpu().float().numpy(), what)
