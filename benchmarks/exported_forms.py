"""Times the files that `biper export` writes for other engines, beside biper's own engine on the packed file.

    taskset -c 0 python benchmarks/exported_forms.py cifar10-resnet20

One image, one thread; the forms take turns. A form whose engine is not installed is left out by name. Outputs are
compared with those of biper's engine before anything is timed: most images must have the same class.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from records import tables
from records.rows import FormatRow

from biper.cli.paths import model_file
from biper.runtime.cpu import instruction_sets
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.runtime.timing import interleaved

Images = NDArray[np.float32]
Run = Callable[[Images], Images]

IMAGES = 16
"""How many images are compared."""


def onnx_runtime(program: Program, folder: Path) -> Run:
    """The file of ``--format onnx`` in ONNX Runtime."""
    import onnxruntime

    from biper.targets.onnx.files import build

    files, _ = build(program, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(files[folder / "model.onnx"], options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def openvino(program: Program, folder: Path) -> Run:
    """The files of ``--format openvino`` in OpenVINO."""
    import openvino

    from biper.targets.openvino.files import build

    files, _ = build(program, folder / "model.xml")
    for path, content in files.items():
        path.write_bytes(content)
    settings = {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
    return lambda images: np.asarray(network([images])[0])


FORMS: dict[str, Callable[[Program, Path], Run]] = {
    "`--format onnx`, ONNX Runtime": onnx_runtime,
    "`--format openvino`, OpenVINO": openvino,
}


def measure(model: str, seconds: float) -> tuple[list[FormatRow], dict[str, str]]:
    """Time the forms of a packed file for about ``seconds`` in all; returns the rows, and what was left out and why."""
    program = read_program(model_file(model))
    images = np.random.Generator(np.random.PCG64(0)).standard_normal((IMAGES, *program.input_shape), np.float32)
    runs: dict[str, Run] = {}
    left_out = {}
    has = set(instruction_sets())
    for name, needs, title in (("avx512", "avx512vpopcntdq", "AVX-512"), ("avx2", "avx2", "AVX2"), ("neon",) * 3):
        if needs in has:
            engine = Engine(program, name)
            runs[f"`biper.runtime`, {title}"] = lambda given, engine=engine: np.asarray(engine(given))
    expected = next(iter(runs.values()))(images).reshape(IMAGES, -1).argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, build in FORMS.items():
            try:
                runs[name] = build(program, Path(folder))
            except ModuleNotFoundError as error:
                left_out[name] = f"{error.name} is not installed"
                continue
            outputs = np.concatenate([runs[name](images[index : index + 1]) for index in range(IMAGES)])
            if (same := int((outputs.reshape(IMAGES, -1).argmax(1) == expected).sum())) < 0.9 * IMAGES:
                left_out[name] = f"its results are wrong: {same} of {IMAGES} images have the same class"
                del runs[name]
        times = interleaved([lambda run=run: run(images[:1]) for run in runs.values()], seconds).seconds
    rows = [FormatRow(network=model, form=name, fastest=min(spent)) for name, spent in zip(runs, times, strict=True)]
    return rows, left_out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a packed file of pictures, or the name of one that comes with biper")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to take for all forms together")
    options = parser.parse_args()
    rows, left_out = measure(options.model, options.seconds)
    print(tables.formats(rows))
    for name, why in left_out.items():
        print(f"{name}: left out: {why}")


if __name__ == "__main__":
    main()
