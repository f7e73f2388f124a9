"""A program as a file for ONNX Runtime and other engines that read ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from biper.runtime.agreement import RunImages
from biper.runtime.program import Program
from biper.targets.onnx.graph import onnx_model


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], RunImages]:
    """The content of the file, and a function that runs it in ONNX Runtime.

    Args:
        program: a validated program.
        out: the path of the file.

    Returns:
        The content by path, and the function from normalized images (N, C, H, W) to outputs.
    """
    content = onnx_model(program).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([program.output], {"image": images})[0])

    return {out: content}, run
