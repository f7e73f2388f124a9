"""A program as two files for OpenVINO: its operators in XML, and its constants in a binary file beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from biper.runtime.agreement import RunProgram
from biper.runtime.program import Program
from biper.targets.openvino.graph import openvino_model
from biper.targets.openvino.signal_stack import restored_signal_stack


def build(program: Program, out: Path) -> tuple[dict[Path, bytes], RunProgram]:
    """The content of both files, for one image in each call, and a function that runs them in OpenVINO.

    Args:
        program: a validated program.
        out: the path of the XML file.

    Returns:
        The contents by path, and the function.
    """
    with tempfile.TemporaryDirectory() as folder, restored_signal_stack():
        written = Path(folder) / "model.xml"
        openvino.save_model(openvino_model(program, 1, in_float=True), written, compress_to_fp16=False)
        network = openvino.Core().compile_model(written, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        files = {out: written.read_bytes(), out.with_suffix(".bin"): written.with_suffix(".bin").read_bytes()}

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        rows: list[list[NDArray[np.float32]]] = []
        for image in range(len(inputs["image"])):
            found = network([inputs[name][image : image + 1] for name in ("image", *program.inputs)])
            rows.append([found[number].copy() for number in range(len(program.results))])
        return {
            name: np.concatenate(parts) for name, parts in zip(program.results, zip(*rows, strict=True), strict=True)
        }

    return files, run
