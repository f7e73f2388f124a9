"""The same network on other engines: it is compared with the reference, and timed only where it is right."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.array_programs import array_programs
from support.processor import OPENVINO_INT8_SATURATES
from support.programs import PADDED, PLAIN, operation, program_of, random_bits

from biper.errors import MissingDependencyError, ModelError
from biper.lowering.quantize import quantize_real_convolutions
from biper.peers import engines
from biper.peers.engines import PEERS, PeerTime, compare_engines, load_variants
from biper.peers.full_precision import full_precision
from biper.peers.variant import Call, Job, Network, Variant
from biper.runtime.cpu import instruction_sets
from biper.runtime.engine import engine_is_built
from biper.runtime.program import Operation, Program
from biper.runtime.reference import run_reference
from biper.runtime.timing import interleaved
from biper.targets.real_layers import folded_weight

needs_engine = pytest.mark.skipif(not engine_is_built(), reason="biper's native extension is not built")


def affine(random: np.random.Generator, channels: int, *names: str) -> dict[str, np.ndarray]:
    return {name: random.standard_normal(channels).astype(np.float32) for name in names or ("multiplier", "offset")}


def real_weight(random: np.random.Generator, *shape: int) -> dict[str, np.ndarray]:
    return {"weight": random.standard_normal(shape).astype(np.float32), **affine(random, shape[0], "offset")}


def pool(reads: str, kind: str, kernel: int, size: list[int], padding: int = 0, **rest: object) -> Operation:
    both = {"kernel": [kernel] * 2, "stride": [2, 2], "padding": [padding] * 2, "size": size, "count_padding": False}
    return operation("pool", reads, attributes=both | {"kind": kind}, **rest)


def every_operation(groups: int = 1) -> Program:
    """A small network with every operation, every epilogue, a pool rounded up and a padding that is not symmetric."""
    random = np.random.Generator(np.random.PCG64(0))
    clip = {"activation": "clip", "low": -1.0, "high": 1.0}
    twice = {"stride": [2, 2]}
    threshold = {
        "threshold": random.integers(-9, 10, 24).astype(np.int32),
        "flip": random.integers(0, 2, 24).astype(np.uint8),
    }
    operations = [
        operation(
            "convolution", "image", real_weight(random, 16, 3, 3, 3), real="v0", bits="b0",
            attributes=PADDED | clip | {"padding": [1, 0, 1, 1]},
        ),
        operation(
            "binary_convolution", "b0", random_bits(random, 16, 16 // groups, 3, 3)
            | affine(random, 16, "multiplier", "offset", "slope"), real="v1", bits="b1", residual="v0",
            attributes=PADDED | {"activation": "prelu", "groups": groups},
        ),
        operation(
            "binary_convolution", "b1", random_bits(random, 24, 16, 3, 3) | threshold, bits="b2",
            attributes=PADDED | twice,
        ),
        operation("binary_convolution", "b2", random_bits(random, 24, 24, 1, 1), real="v3", attributes=PLAIN),
        pool("v3", "max", 3, [3, 3], 1, tensors=affine(random, 24), real="v4", bits="b4"),
        pool("v1", "average", 2, [6, 5], real="v5"),
        operation(
            "convolution", "v5", {"weight": random.standard_normal((8, 8, 3, 3)).astype(np.float16)}, real="v6",
            attributes=PADDED | twice | {"groups": 2, "activation": "relu"},
        ),
        operation("pad_channels", "v6", real="v7", attributes={"before": 9, "after": 7}),
        Operation("concatenate", "test", ("v4", "v7"), (0, 0, 0), real="v8"),
        operation("resize", "v8", real="v9", attributes={"height": 5, "width": 4}),
        operation(
            "elementwise", "v9", affine(random, 48, "multiplier", "offset", "slope"), real="v10", residual="v9",
            attributes={"activation": "prelu"},
        ),
        pool("v10", "average", 4, [1, 1], tensors=affine(random, 48), real="v11"),
        operation("flatten", "v11", real="v12"),
        operation("convolution", "v12", random_bits(random, 10, 48, 1, 1) | affine(random, 10), real="v13",
                  attributes=PLAIN),
    ]  # fmt: skip
    return program_of((3, 12, 10), operations, "v13")


def rows_of(program: Program, *peers: str, batch: int = 1) -> dict[str, PeerTime]:
    return {row.name: row for row in compare_engines(program, peers, batch=batch, seconds=0.01).rows}


@needs_engine
@pytest.mark.parametrize("peer", PEERS)
def test_every_engine_computes_what_the_reference_does(peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed")
    rows = rows_of(every_operation(), peer, batch=3)
    approximate = {f"{peer} int8"}
    if "avx512bf16" in instruction_sets():  # elsewhere OpenVINO computes these layers in float32
        approximate.add("openvino binary, bfloat16 float layers")
    assert len(rows) == {"torch": 2, "onnxruntime": 3, "openvino": 5}[peer]
    for name, row in rows.items():
        if name == "openvino int8" and OPENVINO_INT8_SATURATES and row.refused is not None:
            assert "its results are wrong" in row.refused
            continue
        assert row.refused is None, row
        assert row.ratio is not None
        assert row.minimum_seconds <= row.median_seconds
        if name in approximate:
            assert row.deviation > 1e-6, name
        else:
            assert (row.equal_images, row.images) == (8, 8), name
    assert rows["biper"].ratio == 1


def test_torch_computes_every_operation_on_arrays() -> None:
    torch = pytest.importorskip("torch")
    from biper.peers.torch_peer import TorchNetwork

    for name, program in array_programs().items():
        if program.inputs or any(op.bits is not None for op in program.operations):
            continue
        images = np.random.Generator(np.random.PCG64(0)).standard_normal((3, *program.input_shape), np.float32)
        values = run_reference(program, images)
        for result, value in program.results.items():
            network = TorchNetwork(replace(program, output=value)).eval()
            found = network(torch.from_numpy(images)).numpy()
            assert found.shape == values[value].shape, f"{name}: {result}"
            off = np.abs(found - values[value]).max()
            assert off <= 5e-6 * np.abs(values[value]).max(), f"{name}: {result}"


@pytest.mark.parametrize("peer", PEERS)
def test_a_network_with_operations_on_arrays_runs_on_every_engine(peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed")
    program = array_programs()["network"]
    images = np.random.Generator(np.random.PCG64(0)).standard_normal((3, *program.input_shape), np.float32)
    networks = {Network.full_precision: full_precision(program), Network.float_layers: program}
    for variant in engines.load_variants(peer):
        network = networks.get(variant.network)
        if network is None or "int8" in variant.row or "bfloat16" in variant.row:
            continue
        found = variant.build(Job(network, images, 1))()
        expected = run_reference(network, images)[network.output]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), (variant.row, variant.form)


def test_models_with_further_inputs_are_not_compared() -> None:
    with pytest.raises(ModelError, match="models of one input; this one also takes state, scale"):
        compare_engines(array_programs()["inputs"], ["torch"])


@needs_engine
def test_programs_with_int8_layers_are_compared_with_both_kinds_of_float_layers() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    images = np.random.Generator(np.random.PCG64(2)).standard_normal((8, 3, 12, 10), np.float32)
    rows = rows_of(quantize_real_convolutions(every_operation(), images), "openvino")
    networks = {name: row.network for name, row in rows.items() if "binary" in name}
    assert networks == {
        "openvino binary": "float layers",
        "openvino binary, bfloat16 float layers": "float layers",
        "openvino binary, int8 float layers": "program",
    }
    for name in ("openvino float32", "openvino binary", "openvino binary, int8 float layers"):
        assert rows[name].refused is None, rows[name]
        assert rows[name].equal_images >= 6, name


@needs_engine
def test_what_openvinos_binary_operator_cannot_do_is_not_timed() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    rows = rows_of(every_operation(groups=2), "openvino")
    assert rows["openvino float32"].median_seconds is not None
    binary = rows["openvino binary"]
    assert binary.median_seconds is None
    assert "takes one group and a multiple of 8 channels, not 2 and 16" in binary.refused


@needs_engine
def test_a_wrong_engine_is_not_timed_and_the_fastest_form_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def reference(job: Job, wait: float, error: float) -> Call:
        def run() -> np.ndarray:
            time.sleep(wait)
            return run_reference(job.program, job.images)[job.program.output] * np.float32(1 + error)

        return run

    variants = [
        Variant("a", "slow", Network.full_precision, lambda job: reference(job, 0.03, 0)),
        Variant("a", "fast", Network.full_precision, lambda job: reference(job, 0, 0)),
        Variant("b", "", Network.full_precision, lambda job: reference(job, 0, 0.01)),
        Variant("c", "", Network.full_precision, lambda job: reference(job, 0, float("nan")), tolerance=float("inf")),
        Variant("d", "", Network.full_precision, lambda job: job.nothing),
    ]
    monkeypatch.setattr(engines, "load_variants", lambda _: variants)
    rows = rows_of(every_operation(), "torch")
    assert rows["a"].form == "fast"
    assert rows["a"].median_seconds < 0.03
    assert "its results are wrong: 0 of 8 images within 0.001" in rows["b"].refused
    assert "its results are wrong" in rows["c"].refused
    assert "no attribute 'nothing'" in rows["d"].refused


def test_a_float_network_in_full_precision_is_that_network() -> None:
    """There is nothing to replace: only affines and relus move out of pools, and weights are unpacked."""
    random = np.random.Generator(np.random.PCG64(0))
    positive = {"multiplier": random.random(8).astype(np.float32), **affine(random, 8, "offset")}
    operations = [
        operation("convolution", "image", real_weight(random, 8, 4, 3, 3), real="v0", attributes=PADDED),
        pool("v0", "max", 2, [4, 4], tensors=positive, real="v1"),
        operation("convolution", "v1", random_bits(random, 8, 8, 1, 1) | affine(random, 8), real="v2", residual="v1",
                  attributes=PLAIN),
        pool("v2", "average", 2, [2, 2], tensors=affine(random, 8), real="v3"),
        operation("convolution", "v3", real_weight(random, 5, 8, 2, 2), real="v4", attributes=PLAIN),
    ]  # fmt: skip
    program = program_of((4, 8, 8), operations, "v4")
    real = full_precision(program)
    assert [sorted(op.tensors) for op in real.operations if op.operation == "pool"] == [[], []]
    images = random.standard_normal((3, 4, 8, 8)).astype(np.float32)
    expected, actual = (run_reference(each, images)["v4"] for each in (program, real))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_affine_of_a_threshold_has_the_sign_of_its_bit() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    tensors = random_bits(random, 24, 16, 3, 3) | {
        "threshold": random.integers(-20, 21, 24).astype(np.int32),
        "flip": random.integers(0, 2, 24).astype(np.uint8),
    }
    end = operation("binary_convolution", "b1", random_bits(random, 1, 24, 1, 1), real="v2", attributes=PLAIN)
    bits = operation("binary_convolution", "b0", tensors, bits="b1", attributes=PADDED)
    program = program_of((16, 9, 9), [operation("elementwise", "image", bits="b0"), bits, end], "v2")
    weight, offset = folded_weight(program.operations[1], 16)
    real = operation("convolution", "image", {"weight": weight, "offset": offset}, real="v0", attributes=PADDED)
    signs = np.sign(random.standard_normal((4, 16, 9, 9), np.float32))
    y = run_reference(program_of((16, 9, 9), [real], "v0"), signs)["v0"]
    away = np.abs(y) > 1e-4  # a sum that equals its threshold is zero to rounding
    assert away.mean() > 0.9
    assert np.array_equal((y >= 0)[away], run_reference(program, signs)["b1"][away])


def test_calls_take_turns() -> None:
    calls: list[str] = []

    def run(name: str, wait: float) -> None:
        calls.append(name)
        time.sleep(wait)

    times = interleaved([lambda: run("a", 0.001), lambda: run("b", 0.03)], 0.2)
    assert 0.001 <= min(times.seconds[0]) < 0.03 <= min(times.seconds[1])
    assert times.processor_share < 0.5
    turns = [name for index, name in enumerate(calls) if index == 0 or calls[index - 1] != name]
    assert len(turns) >= 3
    # Each turn has one call that is not timed.
    assert calls.count("a") - len(times.seconds[0]) == calls.count("b") - len(times.seconds[1])


def test_unknown_peers_and_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no peer 'openvin'; did you mean 'openvino'"):
        load_variants("openvin")
    with pytest.raises(ModelError, match="no peer 'larq'; known: torch, onnxruntime, openvino"):
        load_variants("larq")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "biper.peers.openvino_peer", raising=False)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'openvino': pip install 'biper\[bench\]'"):
        load_variants("openvino")


@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are looked at as Linux has them")
def test_signals_still_find_their_stack_after_openvino() -> None:
    """The signal stack is restored: OpenVINO frees its own, and the next signal would kill the process."""
    pytest.importorskip("openvino")
    code = """
import faulthandler
import numpy as np
from support.programs import operation, program_of
from biper.peers.engines import load_variants
from biper.peers.variant import Job
from biper.targets.openvino.signal_stack import signal_stack
from biper.peers.full_precision import full_precision
faulthandler.enable()  # sets a stack, as pytest does
before = signal_stack()
program = program_of((2, 4, 4), [operation("elementwise", "image", real="v")], "v")
run = load_variants("openvino")[0].build(Job(full_precision(program), np.zeros((1, 2, 4, 4), np.float32), 1))
run()
after = signal_stack()
print(before.start is not None, (after.start, after.flags, after.size) == (before.start, before.flags, before.size))
"""
    folder = Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "True True\n"), run.stderr
