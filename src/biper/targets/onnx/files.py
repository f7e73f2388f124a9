"""A program as a file for ONNX Runtime and its like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from biper.runtime.program import Program
from biper.targets.onnx.graph import onnx_model

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], Run]:
    """The file's content, and the outputs of ONNX Runtime that it gives for normalized images."""
    content = onnx_model(program).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([program.output], {"image": images})[0])

    return {out: content}, run
