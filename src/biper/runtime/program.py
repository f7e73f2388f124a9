"""The packed program: what a `.biper` file says. No torch.

A file is a container (`biper.io.container`): tensors, and a document of this form, version 1:

- ``format``: ``"biper program 1"``;
- ``input``: ``shape`` (C, H, W) and ``mean`` and ``std``, one number a channel, for pixels scaled to [0, 1];
- ``classes``: names of the outputs, or an empty list;
- ``output``: the value that is the result;
- ``operations``: in the order in which they run. The tensors of operation 3 are named ``3.weight`` and so on.

A *value* is one image's tensor (C, H, W): real (float32) or bits (each -1 or +1). ``"image"`` is the normalized
input. An operation reads ``inputs``, computes, applies its epilogue and emits ``real``, ``bits`` or both:

=======================  ==========================================================================================
``convolution``          real; ``weight`` (O, I / groups, kh, kw) float32 or float16, or bits (see below), or int8
                         with ``input_factor`` and ``input_zero``: the integer ``sum`` of products of the weights and
                         ``clip(round(x * input_factor), -input_zero, 255 - input_zero)``, halves to even
``binary_convolution``   bits; ``weight`` bits; the integer ``sum`` of products of signs; padding adds nothing
``pool``                 real; ``kind`` ``"max"`` or ``"average"``; windows that start inside the padded image and
                         are cut at its border; ``count_padding``: averages count padded places
``elementwise``          real; the epilogue alone
``pad_channels``         real; ``before`` and ``after`` channels of zeros
``concatenate``          two or more real values, by channel
``resize``               real; to ``height`` x ``width`` by nearest: source row ``floor(row * H / height)``
``flatten``              real; (C, H, W) to (C H W, 1, 1)
=======================  ==========================================================================================

Epilogue, each step if it is there: ``multiplier * y + offset`` by channel (``offset`` alone too); ``+ residual``, a
real value of the same shape; ``activation``: ``"clip"`` to [``low``, ``high``], ``"relu"``, or ``"prelu"`` with
``slope`` by channel. Bits are ``y >= 0``. A ``binary_convolution`` that emits bits alone may have, instead of an
affine, ``threshold`` (int32) and ``flip`` (uint8) by channel: its bits are ``(sum >= threshold) != flip``.

Bits of weights are uint8 (O, kh, kw, ceil(I / groups / 8)), the first channel in the lowest bit, 1 for +1, and zeros
in the bits that are left over.

`biper.runtime.reader` reads and checks it; `biper.runtime.reference` is its meaning, in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from biper.io.container import seal

FORMAT = "biper program 1"

_CONVOLUTION_DEFAULTS: dict[str, Any] = {"stride": [1, 1], "dilation": [1, 1], "groups": 1}


def defaults_of(operation: str) -> dict[str, Any]:
    """Attributes of an operation that are left out of a file where they have these values."""
    return _CONVOLUTION_DEFAULTS if operation in ("convolution", "binary_convolution") else {}


Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Operation:
    """One step of a program; see the module for what its fields mean."""

    operation: str
    source: str
    inputs: tuple[str, ...]
    shape: Shape
    """Of what it emits; derived on loading, not read."""
    real: str | None = None
    bits: str | None = None
    residual: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def real_weight(self, in_channels: int) -> NDArray[np.float32]:
        """Of a convolution: the real weights (O, I / groups, kh, kw) by which it multiplies, however they are stored.

        For int8 they are those of real inputs, without the rounding of these and the multiplier.
        """
        weight = self.tensors["weight"]
        if weight.dtype == np.uint8:
            weight = unpack_weight(weight, in_channels // self.attributes["groups"])
        weight = np.ascontiguousarray(weight, np.float32)
        return weight * np.float32(self.attributes["input_factor"]) if "input_factor" in self.attributes else weight

    @property
    def nbytes(self) -> int:
        """Of its tensors."""
        return sum(array.nbytes for array in self.tensors.values())


@dataclass(frozen=True)
class Program:
    """A validated program."""

    input_shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    output: str
    operations: tuple[Operation, ...]

    @property
    def output_shape(self) -> Shape:
        """Shape of the result."""
        return self.shapes[self.output]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every value, real and bits, by name."""
        made = {name: op.shape for op in self.operations for name in (op.real, op.bits) if name is not None}
        return {"image": self.input_shape} | made


def unpack_weight(packed: NDArray[np.uint8], channels: int) -> NDArray[np.int8]:
    """Weight bits (O, kh, kw, bytes) as int8 -1 and +1 (O, channels, kh, kw)."""
    bits = np.unpackbits(packed, axis=-1, count=channels, bitorder="little")
    return (bits.astype(np.int8) * 2 - 1).transpose(0, 3, 1, 2)


def pack_weight(positive: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bool (O, channels, kh, kw) as weight bits (O, kh, kw, bytes), True for +1."""
    return np.packbits(positive.transpose(0, 2, 3, 1), axis=-1, bitorder="little")


def write_program(program: Program) -> bytes:
    """A program as the bytes of a `.biper` file."""
    tensors: dict[str, NDArray[Any]] = {}
    operations = []
    for number, op in enumerate(program.operations):
        tensors |= {f"{number}.{key}": np.ascontiguousarray(array) for key, array in op.tensors.items()}
        entry: dict[str, Any] = {"operation": op.operation, "source": op.source, "inputs": list(op.inputs)}
        entry |= {key: value for key in ("real", "bits", "residual") if (value := getattr(op, key)) is not None}
        defaults = defaults_of(op.operation)
        attributes = {key: value for key, value in op.attributes.items() if defaults.get(key) != value}
        operations.append(entry | {"attributes": attributes, "tensors": list(op.tensors)})
    document = {
        "format": FORMAT,
        "input": {"shape": list(program.input_shape), "mean": list(program.mean), "std": list(program.std)},
        "classes": list(program.classes),
        "output": program.output,
        "operations": operations,
    }
    return seal(safetensors.numpy.save, tensors, document)
