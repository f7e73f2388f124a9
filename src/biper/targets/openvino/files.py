"""A program as two files for OpenVINO: its operators in XML, and its constants in a binary file beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from biper.runtime.agreement import RunImages
from biper.runtime.program import Program
from biper.targets.openvino.graph import openvino_model
from biper.targets.openvino.signal_stack import restored_signal_stack


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], RunImages]:
    """The content of both files, for one image in each call, and a function that runs them in OpenVINO.

    Args:
        program: a validated program.
        out: the path of the XML file.

    Returns:
        The contents by path, and the function from normalized images (N, C, H, W) to outputs.
    """
    with tempfile.TemporaryDirectory() as folder, restored_signal_stack():
        written = Path(folder) / "model.xml"
        openvino.save_model(openvino_model(program, 1, in_float=True), written, compress_to_fp16=False)
        network = openvino.Core().compile_model(written, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        files = {out: written.read_bytes(), out.with_suffix(".bin"): written.with_suffix(".bin").read_bytes()}

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([network([image[None]])[0].copy() for image in images])

    return files, run
