"""The packed program, which a `.biper` file contains. This module does not need torch.

A file is a container (`biper.io.container`) of tensors and a JSON document. The document of version 1 has the entries

- ``format``: ``"biper program 1"``;
- ``input``: ``shape`` (C, H, W), and ``mean`` and ``std``, one number for each channel, of pixels scaled to [0, 1];
- ``classes``: names of the outputs, or an empty list;
- ``output``: the value that is the result;
- ``operations``: a list in the order of execution. The tensors of operation 3 are named ``3.weight`` and so on.

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

The epilogue has up to three steps: ``multiplier * y + offset`` with numbers for each channel (or ``offset`` alone);
``+ residual``, a real value of the same shape; and ``activation``, which is ``"clip"`` to [``low``, ``high``],
``"relu"``, or ``"prelu"`` with a ``slope`` for each channel. Bits are ``y >= 0``. A ``binary_convolution`` that emits
bits alone may instead have ``threshold`` (int32) and ``flip`` (uint8) for each channel: its bits are
``(sum >= threshold) != flip``.

Bits of weights are uint8 (O, kh, kw, ceil(I / groups / 8)). The first channel is in the lowest bit, 1 stands for +1,
and bits beyond the channels are 0.

`biper.runtime.reader` reads and checks a program; `biper.runtime.reference` defines what it computes, in NumPy.
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
    """The default values of an operation's attributes; a file leaves out attributes that have these values."""
    return _CONVOLUTION_DEFAULTS if operation in ("convolution", "binary_convolution") else {}


Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Operation:
    """One step of a program. The docstring of this module explains the fields."""

    operation: str
    source: str
    inputs: tuple[str, ...]
    shape: Shape
    """(C, H, W) of what the operation emits. It is not in the file: the reader derives it."""
    real: str | None = None
    bits: str | None = None
    residual: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def real_weight(self, in_channels: int) -> NDArray[np.float32]:
        """The weights of a convolution as float32 (O, I / groups, kh, kw), from any form in which they are stored.

        For int8 weights these multiply the real inputs: the result is that of the operation but for the rounding of its
        inputs, before the multiplier.
        """
        weight = self.tensors["weight"]
        if weight.dtype == np.uint8:
            weight = unpack_weight(weight, in_channels // self.attributes["groups"])
        weight = np.ascontiguousarray(weight, np.float32)
        return weight * np.float32(self.attributes["input_factor"]) if "input_factor" in self.attributes else weight

    @property
    def nbytes(self) -> int:
        """The size of the operation's tensors in bytes."""
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
        """The shape (C, H, W) of the result."""
        return self.shapes[self.output]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape (C, H, W) of every value, real or bits, by name."""
        made = {name: op.shape for op in self.operations for name in (op.real, op.bits) if name is not None}
        return {"image": self.input_shape} | made


def unpack_weight(packed: NDArray[np.uint8], channels: int) -> NDArray[np.int8]:
    """Turn weight bits (O, kh, kw, bytes) into int8 weights (O, channels, kh, kw) that are -1 and +1."""
    bits = np.unpackbits(packed, axis=-1, count=channels, bitorder="little")
    return (bits.astype(np.int8) * 2 - 1).transpose(0, 3, 1, 2)


def pack_weight(positive: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Turn bool (O, channels, kh, kw), True for +1, into weight bits (O, kh, kw, bytes)."""
    return np.packbits(positive.transpose(0, 2, 3, 1), axis=-1, bitorder="little")


def write_program(program: Program) -> bytes:
    """Return a program as the bytes of a `.biper` file."""
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
