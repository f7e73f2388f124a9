"""Exporting a trained model from its file, verified on images of its own data set."""

from __future__ import annotations

from pathlib import Path

import torch

from biper.data import load_dataset
from biper.data.augment import normalize
from biper.errors import DataError
from biper.export import ExportReport, export
from biper.models.saved import load_model
from biper.nn import set_stage_

VERIFIED_IMAGES = 64


def export_saved(
    model_file: str | Path, out: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> tuple[ExportReport, str]:
    """Pack a model that `biper.save_model` or a run wrote.

    Its binary layers are put into stage 2. Both sides are compared on the first 64 test images of its data set, on
    training images where it has no others, or on random ones of the same distribution where the data is not at hand.
    Class names that the model lacks, as an imported one does, are the data set's.

    Returns:
        The report, and what images it is about.

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
    report = export(model, out, images, classes=classes, normalization=(info.mean, info.std), float_layers=float_layers)
    return report, what
