"""Real convolutions in int8, after training; the ranges of activations are measured on given images.

For each convolution, with activations ``x`` in [low, high] (0 included) and weights ``w``,

    factor = 255 / (high - low)                   q_x = clip(round(x factor) + zero, 0, 255), zero = round(-low factor)
    s = max |w| / 127 for each output channel     q_w = round(w / s)
    y = (s / factor) * sum (q_x - zero) q_w + offset

The sums are integers, exact on every processor. (Jacob et al., Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, CVPR 2018, equations 1 to 7.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program
from biper.runtime.reference import run_reference


def quantize_real_convolutions(program: Program, images: NDArray[np.float32]) -> Program:
    """A program with int8 weights in every real convolution of one group; the rest stays as it is.

    Args:
        program: a program with float weights.
        images: (N, C, H, W) normalized; the ranges of activations are measured on them.
    """
    values = run_reference(program, images)
    return replace(program, operations=tuple(_quantized(op, values[op.inputs[0]]) for op in program.operations))


def _quantized(op: Operation, x: NDArray[np.float32]) -> Operation:
    if op.operation != "convolution" or op.attributes["groups"] != 1 or op.tensors["weight"].dtype == np.uint8:
        return op
    weight = op.tensors["weight"].astype(np.float64)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    factor = np.float32(255 / max(high - low, 1e-6))
    quantized, scale = int8_weight(weight)
    multiplier = scale / float(factor) * op.tensors.get("multiplier", np.float32(1)).astype(np.float64)
    offset = op.tensors.get("offset", np.zeros(len(weight), np.float32))
    tensors = {
        **op.tensors,
        "weight": quantized,
        "multiplier": multiplier.astype(np.float32),
        "offset": offset,
    }
    attributes = {**op.attributes, "input_factor": float(factor), "input_zero": round(-low * float(factor))}
    return replace(op, attributes=attributes, tensors=tensors)


def int8_weight(weight: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Quantize weights (O, ...) to int8; returns them, and the scale (O,) of each output channel."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest, 1) / 127
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale
