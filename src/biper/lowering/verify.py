"""Verification: a torch model, its packed program and the native engine compute the same on the same images.

The model is compared with the program's NumPy reference layer by layer, and the reference with the engine by outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ExportError
from biper.lowering.custom_ops import ExportedLayer
from biper.lowering.engine_check import difference_at_first_flip
from biper.lowering.exported_layers import with_exported_layers
from biper.lowering.trace import Example, call, input_tensors, named_results
from biper.runtime.agreement import differences, largest_magnitude
from biper.runtime.engine import Engine, engine_is_built
from biper.runtime.program import Program
from biper.runtime.reference import run_reference

LOGIT_TOLERANCE = 1e-4
"""The allowed difference of outputs where no bit flipped, as a share of the largest output of all images."""

FLIP_TOLERANCE = 1e-4
"""A flipped bit must come from a value this close to zero, as a share of the largest value of its layer."""


@dataclass(frozen=True)
class ExportReport:
    """How a packed program agrees with its model on some images.

    Attributes:
        images: how many images were compared.
        binary_layers: how many binary convolutions the program has.
        wrong_sums: how many integer sums differ, given the same bits; must be 0.
        sums: how many integer sums were compared.
        flipped_bits: how many bits differ because a float32 value within rounding of zero fell on the other side, or
            because such a bit differs in an earlier layer.
        bits: how many bits were compared.
        largest_flipped: the largest value that flipped in the first layer of an image with flips, as a share of that
            layer's largest.
        logit_difference: the largest difference of outputs on images without flipped bits, as a share of the largest
            output.
        same_top1: on how many images the largest output is at the same place.
        margin: the largest distance between the first and the second output of an image whose top-1 differs; 0 if none
            does.
        engine_images: on how many images the native engine gives the outputs of the reference to rounding; on the
            others it flipped a bit. All of them where the engine is not built.
        engine_difference: on the others, how far the engine's values are from the reference's where the first bit
            flipped; see `biper.lowering.engine_check`.
        file_bytes: the size of the packed file.
        rounded: whether weights of real layers were rounded; then outputs are compared but need not agree.
    """

    images: int
    binary_layers: int
    wrong_sums: int
    sums: int
    flipped_bits: int
    bits: int
    largest_flipped: float
    logit_difference: float
    same_top1: int
    margin: float
    engine_images: int
    engine_difference: float
    file_bytes: int
    rounded: bool

    def problems(self) -> list[str]:
        """What disagrees beyond rounding, a sentence each; empty for a good export."""
        found = []
        if self.wrong_sums:
            found.append(f"{self.wrong_sums:,} of {self.sums:,} integer sums differ")
        if not self.rounded and self.largest_flipped > FLIP_TOLERANCE:
            found.append(f"bits flipped at values up to {self.largest_flipped:.1e} of their layer's largest")
        if not self.rounded and not self.logit_difference <= LOGIT_TOLERANCE:
            found.append(f"outputs differ by {self.logit_difference:.1e} of the largest, without a flipped bit")
        others = self.images - self.engine_images
        if not self.rounded and not self.engine_difference <= FLIP_TOLERANCE:
            how = (
                f"by {self.engine_difference:.1e} of the largest"
                if self.engine_difference < np.inf
                else "without a flip"
            )
            found.append(f"the engine's values differ from the reference's on {others} images, {how}")
        if self.rounded and 2 * self.engine_images < self.images:  # levels of int8 are rounded too
            found.append(f"the engine's outputs differ from the reference's on {others} images")
        return found

    def require_agreement(self) -> None:
        """Check that nothing disagrees beyond rounding.

        Raises:
            ExportError: something does.
        """
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
    model: nn.Module, program: Program, example_input: Example, *, file_bytes: int = 0, rounded: bool = False
) -> ExportReport:
    """Compare a model in float32 on the CPU with its packed program, and the program's reference with the engine.

    Args:
        model: the torch model; its binary layers are in stage 2.
        program: what was packed.
        example_input: images (N, C, H, W) or signals (N, C, L), normalized, and further inputs; see `trace`.
        file_bytes: the size of the packed file, for the report.
        rounded: whether weights of real layers were rounded, so that outputs need not agree.
    """
    named = {name: tensor.detach().cpu().float() for name, tensor in input_tensors(model, example_input).items()}
    prepared = with_exported_layers(model).float()
    expected, inputs = _run_model(prepared, named)
    (_, images), *others = ((name, tensor.numpy()) for name, tensor in named.items())
    pixels = images.reshape(len(images), *program.input_shape)  # a signal is an image of height 1
    values = run_reference(program, pixels, dict(others))
    layers = _compare_layers(program, prepared, inputs, values)
    same_bits = layers.same_bits

    names = list(program.outputs.values()) or [program.output]
    native = _run_engine(program, pixels, dict(others)) if engine_is_built() else [values[name] for name in names]
    shares = np.zeros(len(images))
    engine_agrees = np.ones(len(images), bool)
    for name, result, of_engine in zip(names, expected, native, strict=True):
        scale = largest_magnitude(result)
        shares = np.maximum(shares, differences(values[name], result, scale).shares)
        engine_agrees &= differences(of_engine, values[name], scale).within(LOGIT_TOLERANCE)
    differing = {name: array[~engine_agrees] for name, array in others}
    difference = 0.0 if rounded else difference_at_first_flip(program, pixels[~engine_agrees], differing)
    same_top1 = differences(values[names[0]], expected[0]).same_top1
    first = expected[0].reshape(len(images), -1)
    ordered = np.sort(first, 1)
    gaps = (ordered[:, -1] - ordered[:, -2])[~same_top1] if first.shape[1] > 1 else np.zeros(0)
    return ExportReport(
        images=len(images),
        binary_layers=layers.count,
        wrong_sums=layers.wrong_sums,
        sums=layers.sums,
        flipped_bits=layers.flipped_bits,
        bits=layers.bits,
        largest_flipped=layers.largest_flipped,
        logit_difference=float(shares[same_bits].max()) if same_bits.any() else 0.0,
        same_top1=int(same_top1.sum()),
        margin=float(gaps.max()) if len(gaps) else 0.0,
        engine_images=int(engine_agrees.sum()),
        engine_difference=difference,
        file_bytes=file_bytes,
        rounded=rounded,
    )


def _run_engine(
    program: Program, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """The results of the native engine, one array for each output of the program."""
    results = Engine(program)(images, others) if others else Engine(program)(images)
    return [results[name] for name in program.outputs] if isinstance(results, Mapping) else [results]


def _run_model(
    prepared: nn.Module, named: Mapping[str, Tensor]
) -> tuple[list[NDArray[np.float32]], dict[nn.Module, list[Tensor]]]:
    """The results of a model, each (N, ...), and for each of its `ExportedLayer`s the inputs of each call.

    Raises:
        ExportError: a result does not begin with the batch.
    """
    inputs: dict[nn.Module, list[Tensor]] = {}

    def remember(layer: nn.Module, arguments: tuple[Tensor, ...], _output: Tensor) -> None:
        inputs.setdefault(layer, []).append(arguments[0])

    for module in prepared.modules():
        if isinstance(module, ExportedLayer):
            module.register_forward_hook(remember)
    with torch.inference_mode():
        # Copies, because a model may change its inputs in place.
        result = call(prepared, {name: tensor.clone() for name, tensor in named.items()})
    count = len(next(iter(named.values())))
    outputs = [tensor.float().numpy() for _, tensor in named_results(result)]
    for output in outputs:
        if output.ndim < 1 or len(output) != count:
            raise ExportError(
                f"the model gives shape {output.shape} for {count} inputs; its results must begin with the batch"
            )
    return outputs, inputs


@dataclass
class _LayerComparison:
    """What `_compare_layers` counts; the names are those of `ExportReport`.

    ``same_bits`` (N,) says on which images no bit differs in any layer.
    """

    same_bits: NDArray[np.bool_]
    count: int = 0
    wrong_sums: int = 0
    sums: int = 0
    flipped_bits: int = 0
    bits: int = 0
    largest_flipped: float = 0.0


def _compare_layers(
    program: Program, prepared: nn.Module, inputs: Mapping[nn.Module, list[Tensor]], values: Mapping[str, NDArray[Any]]
) -> _LayerComparison:
    """Compare the bits and the integer sums of every binary convolution with those of its layer in torch."""
    images = len(values[program.output])
    found = _LayerComparison(np.ones(images, bool))
    calls = {layer: iter(tensors) for layer, tensors in inputs.items()}  # one module may have several names
    for index, op in enumerate(program.operations):
        if op.operation != "binary_convolution":
            continue
        found.count += 1
        layer = prepared.get_submodule(op.source)
        assert isinstance(layer, ExportedLayer)
        bits = values[op.inputs[0]]
        real = _by_image(next(calls[layer]).numpy(), bits, layer.is_linear)
        differs = (real >= 0) != bits
        differing = differs.reshape(images, -1).any(1)
        first = differing & found.same_bits  # the images whose first layer with flips this is
        if first.any():
            largest = np.abs(real[first] * differs[first]).max() / largest_magnitude(real)
            found.largest_flipped = max(found.largest_flipped, float(largest))
        found.same_bits &= ~differing
        found.flipped_bits += int(differs.sum())
        found.bits += differs.size
        correct = _sums(layer, bits)
        found.wrong_sums += int((correct != values[f"{index}.sum"]).sum())
        found.sums += correct.size
    return found


def _by_image(read: NDArray[np.float32], bits: NDArray[np.bool_], is_linear: bool) -> NDArray[np.float32]:
    """What a layer read in torch, in the shape (N, C, H, W) of the bits that its operation reads.

    Torch may have the axis of the batch behind others, or merged with that of windows or frames, in either order. Of
    all arrangements that is taken which gives the most of the bits.
    """
    images, best = len(bits), np.inf
    result = read
    for axis in range(read.ndim - 1 if is_linear else 1):
        size = read.shape[axis]
        for split in {(images, size // images), (size // images, images)} if size % images == 0 else ():
            apart = read.reshape(*read.shape[:axis], *split, *read.shape[axis + 1 :])
            moved = np.moveaxis(apart, axis if split[0] == images else axis + 1, 0)
            if is_linear:
                moved = moved.reshape(images, -1, read.shape[-1]).swapaxes(1, 2)
            arranged = moved.reshape(bits.shape)
            wrong = int(((arranged >= 0) != bits).sum())
            if wrong < best:
                best, result = wrong, arranged
            if not wrong:
                return arranged
    return result


def _sums(layer: ExportedLayer, bits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The integer sums that torch computes in a layer for given input bits."""
    signs = torch.from_numpy(bits).float() * 2 - 1
    weight = layer.bits
    if layer.is_linear and signs[0].numel() == weight[0].numel():
        weight = weight.reshape(len(weight), *signs.shape[1:])
    stride, padding, dilation, groups = layer.geometry
    images, channels = len(signs), weight.shape[1] * groups
    signs = signs.reshape(-1, channels, *signs.shape[2:])  # the channels may be of several images that are parts of one
    with torch.inference_mode():
        sums = F.conv2d(F.pad(signs, padding), weight, None, stride, 0, dilation, groups)
    return sums.reshape(images, -1, *sums.shape[2:]).numpy().astype(np.int32)
