"""A program as a file for ONNX Runtime and other engines that read ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from biper.runtime.agreement import RunProgram
from biper.runtime.program import Program
from biper.targets.array_shapes import output_names
from biper.targets.onnx.graph import onnx_model


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], RunProgram]:
    """The content of the file, and a function that runs it in ONNX Runtime.

    Args:
        program: a validated program.
        out: the path of the file.

    Returns:
        The content by path, and the function.
    """
    content = onnx_model(program).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    names = output_names(program)

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        results = session.run(list(names.values()), dict(inputs))
        return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}

    return {out: content}, run
