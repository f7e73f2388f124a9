"""Packs a model that is in memory with its description, and compares it on samples of its data."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from biper.data.dataset import Dataset
from biper.data.transforms import normalize
from biper.lowering.lower import lower
from biper.lowering.verify import ExportReport
from biper.models.saved import ModelInfo
from biper.nn import set_stage_
from biper.targets.packed.export import export
from biper.targets.packed.saved import VERIFIED_IMAGES


def example_samples(info: ModelInfo, dataset: Dataset | None, count: int = VERIFIED_IMAGES) -> tuple[Tensor, str]:
    """Samples to compare a model and its packed program on.

    Args:
        info: the description of the model.
        dataset: its data; None where they are not there.
        count: how many samples, at most.

    Returns:
        The first test samples, normalized; training samples where there is no test set, random ones where there are no
        data. And what they are, for people.
    """
    if dataset is None:
        return torch.randn((count, *info.shape), generator=torch.Generator().manual_seed(0)), "random samples"
    split = "train" if dataset.test is None else "test"
    return normalize(dataset.split(split).first(count).cpu(), info.mean, info.std), f"{info.dataset} {split} samples"


def export_loaded(
    model: nn.Module, info: ModelInfo, out: str | Path, dataset: Dataset | None = None
) -> tuple[ExportReport, str]:
    """Pack a model that is in memory, in stage 2; the model itself stays as it is.

    Args:
        model: the network.
        info: its description.
        out: the packed file to write.
        dataset: its data; None where they are not there.

    Returns:
        The report, and on which samples it was made.

    Raises:
        ExportError: the model cannot be packed.
    """
    samples, what = example_samples(info, dataset)
    classes = info.classes
    if not classes and dataset is not None and len(dataset.classes) == info.num_classes:
        classes = dataset.classes
    report = export(_in_stage_2(model), out, samples, classes=classes, normalization=(info.mean, info.std))
    return report, what


def require_packable(model: nn.Module, examples: Tensor) -> None:
    """Check that every operation of a network has a packed form, before it is trained.

    Args:
        model: the network, which stays as it is.
        examples: a batch, normalized.

    Raises:
        ExportError: one has none; the text says which.
    """
    lower(_in_stage_2(model), examples.cpu())


def _in_stage_2(model: nn.Module) -> nn.Module:
    """A copy of a network on the CPU in float32, in evaluation mode and stage 2."""
    copied = copy.deepcopy(model).cpu().float().eval()
    set_stage_(copied, "binary")
    return copied
