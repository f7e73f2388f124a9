"""OpenVINO on the processor: the float twin in float32 and in int8, and the program itself on its binary operator."""

from __future__ import annotations

import math
from functools import partial

import openvino

from biper.errors import ModelError
from biper.peers.int8 import PAIRS, Scheme, quantized
from biper.peers.plan import MOST, NEAR, Array, Job, Network, Plan, Run
from biper.targets.onnx.graph import onnx_model
from biper.targets.openvino.graph import openvino_model
from biper.targets.openvino.signal_stack import signal_stack_kept


def plans() -> list[Plan]:
    """Float32, every form of int8, and the binary network with float layers in float32, bfloat16 and int8."""
    float32, bfloat16 = partial(_binary, "f32"), partial(_binary, "bf16")
    return [
        Plan("openvino float32", "", Network.float_twin, _float32),
        *(
            Plan("openvino int8", str(scheme), Network.float_twin, partial(_int8, scheme), NEAR, MOST)
            for scheme in PAIRS
        ),
        Plan("openvino binary", "", Network.float_layers, float32, least=MOST),
        Plan("openvino binary, bfloat16 float layers", "", Network.float_layers, bfloat16, tolerance=math.inf),
        Plan("openvino binary, int8 float layers", "", Network.program, float32, least=MOST),
    ]


def compiled(model: openvino.Model | bytes, threads: int, precision: str, **settings: str) -> openvino.CompiledModel:
    """A network compiled for short answers on ``threads``; ``precision`` of its float layers, "f32" or "bf16"."""
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    with signal_stack_kept():
        core = openvino.Core()
        read = core.read_model(model) if isinstance(model, bytes) else model
        return core.compile_model(read, "CPU", options | settings)


def require_int8(network: openvino.CompiledModel, count: int) -> None:
    """Make sure that ``count`` convolutions of a compiled network run in int8.

    Raises:
        ModelError: fewer do.
    """
    kinds = [op.get_rt_info() for op in network.get_runtime_model().get_ordered_ops()]
    names = [kind["primitiveType"].astype(str) for kind in kinds if kind["layerType"].astype(str) == "Convolution"]
    found = sum(name.lower().endswith(("i8", "u8")) for name in names)
    if found < count:
        raise ModelError(f"OpenVINO runs {found} convolutions in int8 where {count} should be")


def _float32(job: Job) -> Run:
    return _run(job, compiled(onnx_model(job.program, len(job.images)).SerializeToString(), job.threads, "f32"))


def _int8(scheme: Scheme, job: Job) -> Run:
    network = compiled(quantized(job.program, len(job.images), scheme), job.threads, "f32")
    require_int8(network, sum(op.operation == "convolution" for op in job.program.operations))
    return _run(job, network)


def _binary(precision: str, job: Job) -> Run:
    network = compiled(openvino_model(job.program, len(job.images)), job.threads, precision)
    require_int8(network, sum("input_factor" in op.attributes for op in job.program.operations))
    return _run(job, network)


def _run(job: Job, network: openvino.CompiledModel) -> Run:
    request = network.create_infer_request()
    request.set_input_tensor(openvino.Tensor(job.images, shared_memory=True))
    results = request.get_output_tensor().data

    def run() -> Array:
        request.infer()
        return results

    return run
