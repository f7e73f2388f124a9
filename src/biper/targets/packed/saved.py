"""Packs a model with its description, saved or in memory, and compares both on samples of its own data set."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biper.data.dataset import Dataset
from biper.data.specs import SPECS
from biper.data.transforms import evaluation_preprocessing, normalize
from biper.errors import DataError, ModelFormatError
from biper.io.files import atomic_write
from biper.io.outputs import require_output
from biper.io.preprocessing import Preprocessing
from biper.lowering.lower import lower
from biper.lowering.verify import ExportReport
from biper.models.saved import ModelInfo, load_model
from biper.nn import set_stage_
from biper.runtime.program import FORMATS
from biper.runtime.reader import read_program
from biper.targets.packed.export import pack

VERIFIED_IMAGES = 64
"""On how many images a model and its packed program are compared."""


@dataclass(frozen=True)
class PackedModel:
    """A model with a description, packed.

    Attributes:
        blob: the content of the packed file.
        report: what was compared and found.
        images: (N, C, H, W), or (N, C, L) for signals: the normalized samples that were compared.
        what: what these samples are, for people.
    """

    blob: bytes
    report: ExportReport
    images: NDArray[np.float32]
    what: str

    def write(self, out: str | Path) -> tuple[ExportReport, str]:
        """Write the packed file; returns the report, and on which samples it was made."""
        atomic_write(Path(out), self.blob)
        return self.report, self.what


def export_saved(
    model_file: str | Path, out: str | Path, *, data_dir: str | Path | None = None, float_layers: str = "float32"
) -> tuple[ExportReport, str]:
    """Write what `pack_saved` makes.

    Args:
        model_file, data_dir, float_layers: see `pack_saved`.
        out: the packed file to write.

    Returns:
        The report, and on which samples it was made.

    Raises:
        CheckpointError: see `pack_saved`.
        ExportError: see `pack_saved`; or ``out`` is an input, or holds something else than a packed model.
    """
    out = Path(out)
    require_output(out, suffix=".biper", inputs=[Path(model_file)], formats=FORMATS)
    return pack_saved(model_file, data_dir=data_dir, float_layers=float_layers, earlier=out).write(out)


def pack_saved(
    model_file: str | Path,
    *,
    data_dir: str | Path | None = None,
    float_layers: str = "float32",
    earlier: Path | None = None,
) -> PackedModel:
    """Pack a model that `biper.save_model` or a run wrote, as `pack_loaded` does with its data set.

    Args:
        model_file: the saved model.
        data_dir: where its data set lies; None for the default place.
        float_layers: see `biper.export`.
        earlier: a packed file of the same model, whose class names are kept where no others are known.

    Raises:
        CheckpointError: the model cannot be read.
        ExportError: it cannot be exported.
    """
    model, info = load_model(model_file)
    try:
        dataset = info.load_dataset(data_dir)
        return pack_loaded(model, info, dataset, float_layers=float_layers, earlier=earlier)
    except DataError:  # the data are not there, or cannot be read
        return pack_loaded(model, info, None, float_layers=float_layers, earlier=earlier)


def pack_loaded(
    model: nn.Module,
    info: ModelInfo,
    dataset: Dataset | None,
    *,
    float_layers: str = "float32",
    earlier: Path | None = None,
) -> PackedModel:
    """Pack a model that is in memory.

    Its binary layers are packed in stage 2; the model itself stays as it is. The model and the program are compared on
    the first 64 test samples of the data set, on training samples where there is no test set, or on random ones where
    there is no data set. A model without class names, as an imported one, gets those of the data set. The preprocessing
    in the file is that of evaluation.

    Args:
        model: the network.
        info: its description.
        dataset: its data; None where they are not there.
        float_layers: see `biper.export`.
        earlier: a packed file of the same model, whose class names are kept where no others are known.

    Raises:
        DataError: the samples cannot be read.
        ExportError: the model cannot be packed.
    """
    classes = info.classes
    kind = "images" if len(info.shape) == 3 else "samples"
    if dataset is None:
        samples = torch.randn((VERIFIED_IMAGES, *info.shape), generator=torch.Generator().manual_seed(0))
        what = f"random {kind}"
    else:
        split = "train" if dataset.test is None else "test"
        samples = normalize(dataset.split(split).first(VERIFIED_IMAGES).cpu(), info.mean, info.std)
        what = f"{info.dataset} {split} {kind}"
        if not classes and len(dataset.classes) == info.num_classes:
            classes = dataset.classes
    if not classes:
        classes = _class_names(earlier, info)
        what += "; class names kept from the file before" if classes else "; without class names"
    blob, report = pack(
        _in_stage_2(model),
        samples,
        classes=classes,
        normalization=(info.mean, info.std),
        preprocessing=_preprocessing(info),
        float_layers=float_layers,
    )
    return PackedModel(blob, report, samples.float().numpy(), what)


def require_packable(model: nn.Module, examples: Tensor) -> None:
    """Check that every operation of a network has a packed form, before it is trained.

    Args:
        model: the network, which stays as it is.
        examples: a batch, normalized.

    Raises:
        ExportError: one has none; the text says which.
    """
    lower(_in_stage_2(model), examples.cpu())


def _preprocessing(info: ModelInfo) -> Preprocessing | None:
    """What evaluation does to a picture; None for signals and for samples that were given as objects."""
    spec = SPECS.get(info.dataset)
    return None if spec is None else evaluation_preprocessing(spec, info.image_size)


def _in_stage_2(model: nn.Module) -> nn.Module:
    """A copy of a network on the CPU in float32, in evaluation mode and stage 2."""
    copied = copy.deepcopy(model).cpu().float().eval()
    set_stage_(copied, "binary")
    return copied


def _class_names(earlier: Path | None, info: ModelInfo) -> tuple[str, ...]:
    """The class names of an earlier packed file of a model; empty if there is none, or it is of another model."""
    if earlier is None or not earlier.exists():
        return ()
    try:
        program = read_program(earlier)
    except ModelFormatError:
        return ()
    same = (len(program.classes), program.mean, program.std) == (info.num_classes, info.mean, info.std)
    return program.classes if same else ()
