"""Exporting a trained model from its file, verified on images of its own data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biper.data import load_dataset
from biper.data.transforms import normalize
from biper.errors import DataError
from biper.io.files import atomic_write
from biper.lowering.verify import ExportReport
from biper.models.saved import load_model
from biper.nn import set_stage_
from biper.targets.packed.export import pack

VERIFIED_IMAGES = 64


@dataclass(frozen=True)
class PackedModel:
    """A saved model packed: the content of its file, the report, and the normalized images that it is about."""

    blob: bytes
    report: ExportReport
    images: NDArray[np.float32]
    what: str
    """The images, in words."""


def export_saved(
    model_file: str | Path, out: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> tuple[ExportReport, str]:
    """Write what `pack_saved` makes; returns the report, and what images it is about."""
    packed = pack_saved(model_file, data_dir=data_dir, float_layers=float_layers)
    atomic_write(Path(out), packed.blob)
    return packed.report, packed.what


def pack_saved(
    model_file: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> PackedModel:
    """Pack a model that `biper.save_model` or a run wrote.

    Its binary layers are put into stage 2. Both sides are compared on the first 64 test images of its data set, on
    training images where it has no others, or on random ones of the same distribution where the data is not at hand.
    Class names that the model lacks, as an imported one does, are the data set's.

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
    blob, report = pack(model, images, classes=classes, normalization=(info.mean, info.std), float_layers=float_layers)
    return PackedModel(blob, report, images.cpu().float().numpy(), what)
