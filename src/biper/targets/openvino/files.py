"""A program as files for OpenVINO: its operators in XML, its constants beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from biper.runtime.program import Program
from biper.targets.openvino.graph import openvino_model
from biper.targets.openvino.signal_stack import signal_stack_kept

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], Run]:
    """The content of both files, for one image a call, and the outputs that OpenVINO gives once it has read them."""
    with tempfile.TemporaryDirectory() as folder, signal_stack_kept():
        written = Path(folder) / "model.xml"
        openvino.save_model(openvino_model(program, 1, in_float=True), written, compress_to_fp16=False)
        network = openvino.Core().compile_model(written, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        files = {out: written.read_bytes(), out.with_suffix(".bin"): written.with_suffix(".bin").read_bytes()}

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([network([image[None]])[0].copy() for image in images])

    return files, run
