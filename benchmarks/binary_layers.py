"""Times single binary 3x3 layers: biper's kernels beside OpenVINO's binary and int8 convolutions.

    taskset -c 0 python benchmarks/binary_layers.py [--seconds 20]

Each layer is a program that all engines run: the bits of the image, then a 3x3 binary convolution (padding 1, stride
1). In the columns "bits" the convolution has a threshold, and a small second convolution reads its bits. Only the 3x3
node is timed, by `Engine.profile` and by OpenVINO's own profiling, on one thread, in turns of random order; the table
has medians. Results are compared with `biper.runtime.reference` before anything is timed. Needs
`pip install 'biper[bench]'`; without OpenVINO, biper's kernels are timed alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from records import tables
from records.rows import LayerRow

from biper.peers.full_precision import full_precision
from biper.peers.variant import INT8_TOLERANCE
from biper.runtime.bench import multiply_accumulates
from biper.runtime.cpu import instruction_sets, usable_processors
from biper.runtime.engine import Engine
from biper.runtime.program import Operation, Program, pack_weight
from biper.runtime.reference import run_reference

if TYPE_CHECKING:
    from openvino import CompiledModel

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
"""For each layer its height and width, and its channels in and out."""

ROUNDS = 20
"""How many times a turn runs the layer."""

Turn = Callable[[], float]
"""One turn; returns the median seconds of the 3x3 node."""


def layer(size: int, channels: int, bits: bool) -> Program:
    """A 3x3 layer that emits bits, or its sums as real numbers."""
    random_ = np.random.Generator(np.random.PCG64(size))
    shape = (channels, size, size)
    geometry = {"stride": [1, 1], "dilation": [1, 1], "groups": 1}
    tensors = {"weight": pack_weight(random_.random((channels, channels, 3, 3)) < 0.5)}
    if bits:
        tensors["threshold"] = random_.integers(-20, 21, channels).astype(np.int32)
        tensors["flip"] = random_.integers(0, 2, channels).astype(np.uint8)
    operations = [
        Operation("elementwise", "binarize", ("image",), shape, bits="b0"),
        Operation(
            "binary_convolution", "layer", ("b0",), shape, None if bits else "sums", "b1" if bits else None,
            attributes=geometry | {"padding": [1, 1, 1, 1]}, tensors=tensors,
        ),
    ]  # fmt: skip
    if bits:
        weight = {"weight": pack_weight(random_.random((8, channels, 1, 1)) < 0.5)}
        end = Operation(
            "binary_convolution", "reader", ("b1",), (8, size, size), "read",
            attributes=geometry | {"padding": [0, 0, 0, 0]}, tensors=weight,
        )  # fmt: skip
        operations.append(end)
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return Program(shape, zeros, ones, (), "read" if bits else "sums", tuple(operations))


def ours(program: Program, instruction_set: str, images: np.ndarray, expected: np.ndarray) -> Turn:
    """The turn of biper's engine."""
    engine = Engine(program, instruction_set)
    require_near(engine(images), expected, instruction_set, 0)
    return lambda: engine.profile(ROUNDS)[1]


def openvino(network: CompiledModel, images: np.ndarray, expected: np.ndarray, kind: str) -> Turn:
    """The turn of OpenVINO; the first node of type ``kind`` is timed."""
    request = network.create_infer_request()
    request.get_input_tensor().data[:] = images
    request.infer()
    require_near(
        request.get_output_tensor().data, expected, f"OpenVINO {kind}", INT8_TOLERANCE if kind == "Convolution" else 0
    )

    def turn() -> float:
        times = []
        for _ in range(ROUNDS):
            request.infer()
            node = next(node for node in request.profiling_info if node.node_type == kind)
            times.append(node.real_time.total_seconds())
        return statistics.median(times)

    return turn


def require_near(results: np.ndarray, expected: np.ndarray, name: str, tolerance: float) -> None:
    """Exit where results deviate by more than ``tolerance``, a share of the largest; 0 for equal integer sums."""
    off = np.abs(results - expected).max() / np.abs(expected).max()
    if off > tolerance:
        raise SystemExit(f"{name}: its results are wrong by {off:.1%} of the largest; nothing was timed")


def turns_of(size: int, channels: int, sets: list[str]) -> dict[str, Turn]:
    """The turns of all engines on one layer, by name."""
    images = np.random.Generator(np.random.PCG64(1)).standard_normal((1, channels, size, size), np.float32)
    turns: dict[str, Turn] = {}
    for out in ("bits", "sums"):
        program = layer(size, channels, out == "bits")
        expected = run_reference(program, images)[program.output]
        for name in sets:
            turns[f"{name} {out}"] = ours(program, name, images, expected)
        if has_openvino():
            turns |= openvino_turns(program, out, images, expected)
    return turns


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def openvino_turns(program: Program, out: str, images: np.ndarray, expected: np.ndarray) -> dict[str, Turn]:
    """The turns of OpenVINO's binary convolution, and of its int8 convolution for a layer that writes bits."""
    from biper.peers.int8 import Scheme, int8_onnx
    from biper.peers.openvino_peer import compiled, require_int8
    from biper.targets.openvino.graph import openvino_model

    network = compiled(openvino_model(program, 1), 1, "f32", PERF_COUNT="YES")
    turns = {f"openvino binary {out}": openvino(network, images, expected, "BinaryConvolution")}
    if out == "bits":
        real = full_precision(program)
        network = compiled(int8_onnx(real, 1, Scheme()), 1, "f32", PERF_COUNT="YES")
        require_int8(network, 2)
        expected = run_reference(real, images)[real.output]
        turns["openvino int8 bits"] = openvino(network, images, expected, "Convolution")
    return turns


def kernels() -> list[str]:
    """The instruction sets of biper that this processor has and that are timed, the fastest first."""
    has = set(instruction_sets())
    return [name for name, needs in (("avx512", "avx512vpopcntdq"), ("avx2", "avx2")) if needs in has]


def measure(seconds: float, layers: Sequence[tuple[int, int]] = LAYERS) -> list[LayerRow]:
    """Time each layer on all engines for about ``seconds``."""
    shuffled, sets = random.Random(0), kernels()
    rows = []
    for size, channels in layers:
        turns = turns_of(size, channels, sets)
        times: dict[str, list[float]] = {name: [] for name in turns}
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop or not all(times.values()):
            for name in shuffled.sample(list(turns), len(turns)):
                times[name].append(turns[name]())
        median = {name: statistics.median(spent) for name, spent in times.items()}
        program = layer(size, channels, True)
        macs = multiply_accumulates(program.operations[1], [(channels, size, size)])
        for name, spent in median.items():
            engine, _, out = name.rpartition(" ")
            share = ratio = None
            if engine in sets and out == "bits":
                timed = Engine(program, engine)
                share = macs / spent / max(timed.measure_peak() for _ in range(5))
            elif engine not in sets:
                ratio = spent / median[f"{sets[-1 if engine.endswith('int8') else 0]} {out}"]
            rows.append(
                LayerRow(
                    layer=f"{size}x{size}x{channels}",
                    engine=engine,
                    out=out,
                    median=spent,
                    ratio=ratio,
                    share_of_peak=share,
                )
            )
    return rows


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long to measure each layer")
    rows = measure(parser.parse_args().seconds)
    print(f"Medians, one thread on processor {list(usable_processors())}.\n\n{tables.layers(rows)}")


if __name__ == "__main__":
    main()
