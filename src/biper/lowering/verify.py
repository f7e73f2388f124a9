"""Verification: the model, its packed program and the engine on the same images.

The model and the program's reference are compared layer by layer, the reference and the engine by their outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ExportError
from biper.lowering.custom_ops import ExportedLayer
from biper.lowering.exported_layers import with_exported_layers
from biper.runtime.engine import Engine, engine_is_built
from biper.runtime.program import Program
from biper.runtime.reference import run_reference

LOGIT_TOLERANCE = 1e-4
"""Allowed difference of an output without flipped bits, as a share of the largest output of all images."""

FLIP_TOLERANCE = 1e-4
"""A flipped bit must come from a value this close to zero, as a share of the largest value of its layer."""


@dataclass(frozen=True)
class ExportReport:
    """How a packed program compares to its model on some images."""

    images: int
    binary_layers: int
    wrong_sums: int
    """Integer sums that differ, given the same bits: must be 0."""
    sums: int
    flipped_bits: int
    """Bits that differ because a float32 value within rounding of zero fell on the other side, or because of such a
    bit in an earlier layer."""
    bits: int
    largest_flipped: float
    """The largest value that flipped in an image's first layer with flips, as a share of the layer's largest."""
    logit_difference: float
    """On images without flipped bits: the largest difference, as a share of the largest output."""
    same_top1: int
    margin: float
    """The largest distance between the first and the second output of an image whose top-1 differs; 0 if none does."""
    engine_images: int
    """Images whose outputs the native engine gives to rounding; on the others it flipped a bit. All, if not built."""
    file_bytes: int
    rounded: bool
    """Whether weights of real layers were rounded, so that outputs are compared but not required to agree."""

    def problems(self) -> list[str]:
        """What disagrees beyond rounding; empty for a good export."""
        found = []
        if self.wrong_sums:
            found.append(f"{self.wrong_sums:,} of {self.sums:,} integer sums differ")
        if not self.rounded and self.largest_flipped > FLIP_TOLERANCE:
            found.append(f"bits flipped at values up to {self.largest_flipped:.1e} of their layer's largest")
        if not self.rounded and not self.logit_difference <= LOGIT_TOLERANCE:
            found.append(f"outputs differ by {self.logit_difference:.1e} of the largest, without a flipped bit")
        if 2 * self.engine_images < self.images:
            found.append(f"the engine's outputs are another's on {self.images - self.engine_images} images")
        return found

    def require_agreement(self) -> None:
        """Raises ExportError if anything disagrees."""
        if problems := self.problems():
            raise ExportError(f"the packed program does not compute what the model does: {'; '.join(problems)}")

    def __str__(self) -> str:
        top1 = f"top-1 agrees on {self.same_top1} of {self.images} images"
        if self.same_top1 < self.images:
            top1 += f" (others within a margin of {self.margin:.1e})"
        engine = f"the engine's outputs equal on {self.engine_images}"
        if self.engine_images < self.images:
            engine += " (a bit flipped by rounding on the others)"
        return (
            f"{self.sums:,} integer sums of {self.binary_layers} binary layers equal, {self.flipped_bits:,} of "
            f"{self.bits:,} bits flipped by rounding, outputs within {self.logit_difference:.1e}, {top1}, {engine}, "
            f"{self.file_bytes:,} bytes"
        )


def verify(
    model: nn.Module, program: Program, images: Tensor, *, file_bytes: int = 0, rounded: bool = False
) -> ExportReport:
    """Compare a model in float32 on the CPU with its packed program, on normalized images (N, C, H, W)."""
    prepared = with_exported_layers(model).float()
    layers = {name: module for name, module in prepared.named_modules() if isinstance(module, ExportedLayer)}
    inputs: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _module, arguments, _output, name=name: inputs.__setitem__(name, arguments[0])
        )
    images = images.detach().cpu().float()
    with torch.inference_mode():
        expected = prepared(images.clone()).flatten(1).numpy()  # a copy: a model may change its input in place
    values = run_reference(program, images.numpy())
    actual = values[program.output].reshape(len(images), -1)

    wrong = sums = flipped = bits = binary = 0
    clean = np.ones(len(images), bool)
    largest_flipped = 0.0
    for index, op in enumerate(program.operations):
        if op.operation != "binary_convolution":
            continue
        binary += 1
        layer = layers[op.source]
        ours = values[op.inputs[0]]
        real = inputs[op.source].numpy().reshape(len(images), *ours.shape[1:])
        differs = (real >= 0) != ours
        first = differs.reshape(len(images), -1).any(1) & clean
        if first.any():
            largest = np.abs(real[first] * differs[first]).max() / max(np.abs(real).max(), 1e-30)
            largest_flipped = max(largest_flipped, float(largest))
        clean &= ~differs.reshape(len(images), -1).any(1)
        flipped, bits = flipped + int(differs.sum()), bits + differs.size
        correct = _sums(layer, ours)
        wrong, sums = wrong + int((correct != values[f"{index}.sum"]).sum()), sums + correct.size
    scale = max(float(np.abs(expected).max()), 1e-30)
    native = Engine(program)(images.numpy()).reshape(actual.shape) if engine_is_built() else actual
    close = np.abs(native - actual).max(1) <= LOGIT_TOLERANCE * scale
    difference = float(np.abs(actual - expected)[clean].max() / scale) if clean.any() else 0.0
    agrees = actual.argmax(1) == expected.argmax(1)
    ordered = np.sort(expected, 1)
    gaps = (ordered[:, -1] - ordered[:, -2])[~agrees] if expected.shape[1] > 1 else np.zeros(0)
    return ExportReport(
        images=len(images),
        binary_layers=binary,
        wrong_sums=wrong,
        sums=sums,
        flipped_bits=flipped,
        bits=bits,
        largest_flipped=largest_flipped,
        logit_difference=difference,
        same_top1=int(agrees.sum()),
        margin=float(gaps.max()) if len(gaps) else 0.0,
        engine_images=int(close.sum()),
        file_bytes=file_bytes,
        rounded=rounded,
    )


def _sums(layer: ExportedLayer, bits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The integer sums of a layer for given input bits, as torch computes them."""
    signs = torch.from_numpy(bits).float() * 2 - 1
    weight = layer.bits
    if layer.is_linear:
        weight = weight.reshape(len(weight), *signs.shape[1:])
    stride, padding, dilation, groups = layer.geometry
    with torch.inference_mode():
        return F.conv2d(F.pad(signs, padding), weight, None, stride, 0, dilation, groups).numpy().astype(np.int32)
