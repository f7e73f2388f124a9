"""A float ONNX graph in int8, by ONNX Runtime's static quantization: per-channel symmetric int8 weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from biper.peers.variant import Array
from biper.runtime.program import Program
from biper.targets.onnx.graph import onnx_model

CALIBRATION_IMAGES = 8
"""How many random images calibrate the ranges of activations."""


@dataclass(frozen=True)
class Scheme:
    """How an int8 graph is written.

    Attributes:
        pairs: as pairs of quantize and dequantize nodes (QDQ) around float operators; else as int8 operators.
        signed: activations are int8; else uint8.
        convolutions_alone: only convolutions are quantized.
    """

    pairs: bool = True
    signed: bool = False
    convolutions_alone: bool = False

    def __str__(self) -> str:
        form = f"{'QDQ' if self.pairs else 'QOperator'}, {'int8' if self.signed else 'uint8'} activations"
        return form + (", convolutions alone" if self.convolutions_alone else "")


PAIRS = (Scheme(), Scheme(signed=True), Scheme(convolutions_alone=True))
"""The schemes with pairs, which every engine reads."""

INT8_OPERATORS = (Scheme(pairs=False), Scheme(pairs=False, signed=True))
"""The schemes with int8 operators, which only ONNX Runtime reads."""


def int8_onnx(program: Program, batch: int, scheme: Scheme) -> bytes:
    """A network in full precision as an int8 ONNX file; random images calibrate the ranges of its activations.

    Args:
        program: what `biper.peers.full_precision` makes.
        batch: images of one call.
        scheme: how int8 is written.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx_model(program, batch),
            path,
            _RandomImages((batch, *program.input_shape)),
            quant_format=QuantFormat.QDQ if scheme.pairs else QuantFormat.QOperator,
            op_types_to_quantize=["Conv"] if scheme.convolutions_alone else None,
            per_channel=True,
            activation_type=QuantType.QInt8 if scheme.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


class _RandomImages:
    """Random images in batches of ``shape``, as a calibration data reader of ONNX Runtime, which has `get_next`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        count = -(-CALIBRATION_IMAGES // shape[0])
        images = np.random.Generator(np.random.PCG64(1)).standard_normal((count, *shape), np.float32)
        self.batches: Iterator[Array] = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice that the quantizer logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
