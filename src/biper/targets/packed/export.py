"""Exports a trained torch model to a packed file: it is traced, lowered, packed, and compared with the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from biper.errors import ExportError, ModelFormatError
from biper.io.files import atomic_write
from biper.io.outputs import require_output
from biper.io.preprocessing import Preprocessing
from biper.lowering.lower import lower
from biper.lowering.pack import RealType, pack_graph
from biper.lowering.quantize import quantize_real_convolutions
from biper.lowering.trace import Example, input_tensors
from biper.lowering.verify import ExportReport, verify
from biper.runtime.budget import UNLIMITED
from biper.runtime.program import FORMATS, Program, write_program
from biper.runtime.reader import MAX_OPERATIONS, read_program
from biper.targets.operations import require_operations
from biper.targets.packed import OPERATIONS

WITHOUT_NORMALIZATION = (
    "the packed file has no normalization: predict will give the network pixels scaled to 0 to 1; if it was trained on "
    "pixels that were normalized, give normalization=(mean, std), else normalization=([0], [1]) with a number for each "
    "channel"
)


class FloatLayers(StrEnum):
    """The number format in which layers that are not binary are stored and computed; see `export`."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"

    @classmethod
    def of(cls, value: FloatLayers | str) -> FloatLayers:
        """The member with a name.

        Raises:
            ExportError: there is none.
        """
        if value not in list(cls):
            raise ExportError(f"float layers {value!r} are not known: expected {', '.join(cls)}")
        return cls(value)


def export(
    model: nn.Module,
    path: str | Path,
    example_input: Example,
    *,
    classes: Sequence[str] = (),
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    preprocessing: Preprocessing | None = None,
    float_layers: FloatLayers | str = FloatLayers.float32,
) -> ExportReport:
    """Pack a model into one file, after checking that the packed program computes what the model does.

    Args:
        model: any module whose binary layers are in stage 2. It maps images, signals or vectors, and perhaps further
            tensors, to one tensor or to several (a tuple, a dict, a dataclass), each of which begins with N.
        path: the file to write, usually ``something.biper``.
        example_input: (N, C, H, W), (N, C, L) for signals, or (N, F) for vectors, floating point, normalized. It fixes
            all sizes but N. The model and the packed program are compared on all N images, so give real ones. For a
            model with several inputs, a sequence or a dict of tensors, the image first.
        classes: a name for each output (of a map: for each channel), or none.
        normalization: (mean, std) of pixels scaled to [0, 1], one number for each channel. The default is 0
            and 1, with a warning if the model can take pictures: prediction then gives it pixels from 0 to 1.
        preprocessing: how a picture becomes the pixels that are normalized, so that prediction does with a picture what
            you did in evaluation. Without it, prediction squeezes the whole picture to the size of the input.
        float_layers: the number format of the layers that stay real: ``"float32"``; ``"float16"``, which rounds their
            weights to half the space; ``"bfloat16"``, which rounds their weights and their inputs to 8 significant
            bits, for products in bfloat16; or ``"int8"``, with weights in a quarter of the space and integer products,
            calibrated on the example input.

    Returns:
        A report of what was compared and found; print it.

    Raises:
        ExportError: an operator is not supported (the text names it and its module), a weight or an example is not
            finite, or the model and the program do not agree, or ``path`` holds something else than a packed model.
            Nothing is written then.
    """
    path = Path(path)
    require_output(path, suffix=".biper", formats=FORMATS)
    blob, report = pack(
        model,
        example_input,
        classes=classes,
        normalization=normalization,
        preprocessing=preprocessing,
        float_layers=float_layers,
    )
    _warn_of_losses(path, read_program(blob))
    atomic_write(path, blob)
    return report


def pack(
    model: nn.Module,
    example_input: Example,
    *,
    classes: Sequence[str] = (),
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    preprocessing: Preprocessing | None = None,
    float_layers: FloatLayers | str = FloatLayers.float32,
) -> tuple[bytes, ExportReport]:
    """Pack a model as `export` does, without writing it.

    Args:
        model, example_input, classes, normalization, preprocessing, float_layers: see `export`.

    Returns:
        The content of the packed file, and the report.

    Raises:
        ExportError: see `export`.
    """
    if not isinstance(model, nn.Module):
        raise ExportError(f"model=... expects a torch.nn.Module, got {type(model).__name__}")
    tensors = input_tensors(model, example_input)
    _require_finite({**model.state_dict(), **{f"example_input: {name}": tensor for name, tensor in tensors.items()}})
    graph = lower(model, example_input)
    channels = graph.input_shape[0]
    mean, std = normalization if normalization is not None else ((0.0,) * channels, (1.0,) * channels)
    if len(mean) != channels or len(std) != channels:
        raise ExportError(f"normalization expects {channels} numbers of mean and std, got {len(mean)} and {len(std)}")
    if normalization is None and channels in (1, 3) and graph.input_shape[1] > 1:
        warnings.warn(WITHOUT_NORMALIZATION, stacklevel=3)
    float_layers = FloatLayers.of(float_layers)
    real_type = _REAL_TYPES.get(float_layers, np.float32)
    program = pack_graph(graph, mean=tuple(mean), std=tuple(std), classes=tuple(classes), real_type=real_type)
    if preprocessing is not None and preprocessing.shape != program.input_shape:
        raise ExportError(f"preprocessing makes images of {preprocessing.shape}, the model takes {program.input_shape}")
    program = replace(program, preprocessing=preprocessing)
    require_operations(program, "a packed file", OPERATIONS)
    if len(program.operations) > MAX_OPERATIONS:
        raise ExportError(
            f"the model has {len(program.operations):,} operations, a packed file up to {MAX_OPERATIONS:,}: recurrent "
            f"layers and loops are written out step by step, so shorter inputs have fewer"
        )
    if float_layers is FloatLayers.int8:
        if program.inputs:
            raise ExportError("float_layers='int8' is measured on images alone, and the model has further inputs")
        images = next(iter(tensors.values())).detach().cpu().float().numpy()
        program = quantize_real_convolutions(program, images.reshape(len(images), *program.input_shape))
    rounded = float_layers is not FloatLayers.float32
    blob = write_program(program)
    written = read_program(blob, max_memory=UNLIMITED, max_work=UNLIMITED)
    report = verify(model, written, example_input, file_bytes=len(blob), rounded=rounded)
    report.require_agreement()
    return blob, report


_REAL_TYPES: dict[FloatLayers, RealType] = {FloatLayers.float16: np.float16, FloatLayers.bfloat16: "bfloat16"}
"""In which type the weights of real convolutions are stored, where it is not float32."""


def _warn_of_losses(path: Path, new: Program) -> None:
    """Warn if a packed file that is to be replaced has class names, a normalization or preprocessing that are lost."""
    try:
        old = read_program(path) if path.exists() else new
    except ModelFormatError:
        return
    lost = ["class names"] if old.classes and not new.classes else []
    had, has = (not {*program.mean} <= {0} or not {*program.std} <= {1} for program in (old, new))
    if had and not has:
        lost.append("normalization")
    if old.preprocessing is not None and new.preprocessing is None:
        lost.append("preprocessing")
    if lost:
        warnings.warn(f"the file that replaces {path} lacks what that had: {', '.join(lost)}", stacklevel=3)


def _require_finite(tensors: Mapping[str, Any]) -> None:
    """Check that all weights, buffers and examples, by their names, are finite numbers.

    Raises:
        ExportError: one is NaN or infinite; the text names the tensor.
    """
    for name, tensor in tensors.items():
        if is_lazy(tensor) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        if not torch.isfinite(tensor).all():
            count = int((~torch.isfinite(tensor)).sum())
            raise ExportError(f"{name} has {count:,} values that are NaN or infinite, of {tensor.numel():,}")
