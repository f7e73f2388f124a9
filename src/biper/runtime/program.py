"""The packed program, which a `.biper` file contains. This module does not need torch.

A file is a container (`biper.io.container`) of tensors and a JSON document. The document has the entries

- ``format``: ``"biper program 2"``, or ``"biper program 1"`` where version 1 can say all of it;
- ``input``: ``shape`` (C, H, W), and ``mean`` and ``std``, one number for each channel, of pixels scaled to [0, 1];
- ``classes``: names of the outputs (of a map: of its channels), or an empty list;
- ``output``: the value that is the result;
- ``operations``: a list in the order of execution. The tensors of operation 3 are named ``3.weight`` and so on;
- version 2 alone, which also has weights in bfloat16, each optional: ``outputs``, which maps names to values, for a
  model with several named results, of which ``output`` is the first; ``inputs``, which maps the names of further inputs
  to their shapes; ``preprocessing``, which says how a picture becomes the pixels that are normalized: the fields of
  `biper.runtime.Preprocessing` by their names, ``resize`` being one number (the shorter side) or two (height and
  width). Without it the whole picture is squeezed to the size of the input, bilinearly.

A *value* belongs to one image. It is real (float32) and of any shape, or it is bits (each -1 or +1) of shape (C, H, W).
``"image"`` is the normalized input. There are two kinds of operations. `biper.runtime.operations` lists them.

**Operations on images** read ``inputs`` of shape (C, H, W), compute, apply an epilogue and emit ``real``, ``bits`` or
both:

=======================  ==========================================================================================
``convolution``          real; ``weight`` (O, I / groups, kh, kw) float32 or float16, or bits (see below); or uint16,
                         the bits of bfloat16: inputs are rounded to bfloat16 too (to nearest, halves to even), and
                         sums are of float32; or int8 with ``input_factor`` and ``input_zero``: the integer ``sum`` of
                         products of the weights and ``clip(round(x * input_factor), -input_zero, 255 - input_zero)``,
                         halves to even
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

**Operations on arrays**, of version 2, read real values of any shape and emit one. They have no epilogue:

===============  ==================================================================================================
``constant``     the tensor ``value``
``unary``        ``function`` of each element, with its parameters as further attributes
``binary``       ``function`` of two values, broadcast together
``select``       the second value where the first is not 0, else the third; broadcast together
``reduce``       ``function`` (sum, mean, max, min, product) over ``axes``, which stay with size 1 if ``keep``
``softmax``      along ``axis``; its logarithm if ``log``
``normalize``    ``(x - mean) / sqrt(variance + epsilon)`` over ``axes``; without the mean unless ``center``
``matmul``       products of matrices (..., M, K) and (..., K, N); the leading axes are broadcast together
``reshape``      to ``shape``, in row-major order
``permute``      axis ``i`` of the result is axis ``order[i]``
``slice``        ``sizes[i]`` elements from ``starts[i]`` in steps of ``steps[i]`` along each axis
``expand``       to ``shape``, as broadcasting does
``join``         concatenates along ``axis``
``pad``          ``low``, ``high`` (negative ones remove) and ``interior`` elements of ``value`` for each axis
``sample``       along ``axis``, element ``l`` is the sum over ``t`` of ``weight[t, l] * x[index[t, l]]`` (1 without
                 ``weight``), or with ``function`` ``"max"`` the largest
===============  ==================================================================================================

`biper.runtime.reader` reads and checks a program; `biper.runtime.reference` defines what it computes, in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from biper.io.container import seal
from biper.io.preprocessing import Preprocessing
from biper.runtime.bfloat16 import are_finite, from_bfloat16

FORMATS = ("biper program 1", "biper program 2")
"""The formats that can be read. The second has operations on arrays, further outputs and inputs, and preprocessing."""

VERSION_1 = frozenset(
    {
        "convolution", "binary_convolution", "pool", "elementwise", "pad_channels", "concatenate", "resize", "flatten",
    }
)  # fmt: skip
"""The operations of version 1 of the format, which are the operations on images."""

_CONVOLUTION_DEFAULTS: dict[str, Any] = {"stride": [1, 1], "dilation": [1, 1], "groups": 1}


def defaults_of(operation: str) -> dict[str, Any]:
    """The default values of an operation's attributes; a file leaves out attributes that have these values."""
    return _CONVOLUTION_DEFAULTS if operation in ("convolution", "binary_convolution") else {}


def are_usable(operation: str, values: NDArray[Any]) -> bool:
    """Whether a program may have these values in a tensor of an operation.

    NaN is in none. Infinity is in a ``constant`` alone, as in the masks of attention.
    """
    if values.dtype == np.uint16:
        return are_finite(values)
    if values.dtype.kind != "f":
        return True
    return not bool(np.isnan(values).any() if operation == "constant" else (~np.isfinite(values)).any())


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One step of a program. The docstring of this module explains the fields."""

    operation: str
    source: str
    inputs: tuple[str, ...]
    shape: Shape
    """The shape of what the operation emits. It is not in the file: the reader derives it."""
    real: str | None = None
    bits: str | None = None
    residual: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def real_weight(self, in_channels: int) -> NDArray[np.float32]:
        """The weights of a convolution as float32 (O, I / groups, kh, kw), from any form in which they are stored.

        For int8 and bfloat16 weights these multiply the real inputs: the result is that of the operation but for the
        rounding of its inputs, before the multiplier.
        """
        weight = self.tensors["weight"]
        if weight.dtype == np.uint8:
            weight = unpack_weight(weight, in_channels // self.attributes["groups"])
        elif weight.dtype == np.uint16:
            weight = from_bfloat16(weight)
        weight = np.ascontiguousarray(weight, np.float32)
        return weight * np.float32(self.attributes["input_factor"]) if "input_factor" in self.attributes else weight

    @property
    def nbytes(self) -> int:
        """The size of the operation's tensors in bytes."""
        return sum(array.nbytes for array in self.tensors.values())


@dataclass(frozen=True)
class Program:
    """A validated program.

    Attributes:
        input_shape: the shape (C, H, W) of an image.
        mean, std: of pixels scaled to [0, 1], one number for each channel.
        classes: names of the outputs (of a map: of its channels), or none.
        output: the value that is the result, or the first of several.
        operations: the steps, in the order of execution.
        outputs: for a model with several results, the name of each and its value; else empty.
        inputs: the names and shapes of inputs other than the image.
        preprocessing: how a picture becomes the pixels of the image; None where the file does not say.
    """

    input_shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    output: str
    operations: tuple[Operation, ...]
    outputs: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    @property
    def output_shape(self) -> Shape:
        """The shape of the result, or of the first of several."""
        return self.shapes[self.output]

    @property
    def is_of_pictures(self) -> bool:
        """Whether the input is a picture, and not a signal or a vector, which are images of height 1."""
        return self.input_shape[1] > 1 or self.preprocessing is not None

    @property
    def results(self) -> Mapping[str, str]:
        """The value that each result is, by the name of the result: for one without a name, that of the value."""
        return self.outputs or {self.output: self.output}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value, real or bits, by name."""
        made = {name: op.shape for op in self.operations for name in (op.real, op.bits) if name is not None}
        return {"image": self.input_shape} | dict(self.inputs) | made


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
        tensors |= {f"{number}.{key}": np.asarray(array, order="C") for key, array in op.tensors.items()}
        entry: dict[str, Any] = {"operation": op.operation, "source": op.source, "inputs": list(op.inputs)}
        entry |= {key: value for key in ("real", "bits", "residual") if (value := getattr(op, key)) is not None}
        defaults = defaults_of(op.operation)
        attributes = {key: value for key, value in op.attributes.items() if defaults.get(key) != value}
        operations.append(entry | {"attributes": attributes, "tensors": list(op.tensors)})
    is_new = program.outputs or program.inputs or any(op.operation not in VERSION_1 for op in program.operations)
    is_new = is_new or program.preprocessing is not None or any(array.dtype == np.uint16 for array in tensors.values())
    document: dict[str, Any] = {
        "format": FORMATS[1 if is_new else 0],
        "input": {"shape": list(program.input_shape), "mean": list(program.mean), "std": list(program.std)},
        "classes": list(program.classes),
        "output": program.output,
        "operations": operations,
    }
    if program.outputs:
        document["outputs"] = dict(program.outputs)
    if program.inputs:
        document["inputs"] = {name: list(shape) for name, shape in program.inputs.items()}
    if program.preprocessing is not None:
        document["preprocessing"] = program.preprocessing.to_json()
    return seal(safetensors.numpy.save, tensors, document)
