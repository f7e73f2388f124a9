"""OpenVINO on the processor: the float twin in float32 and in int8, and the program itself on its binary operator."""

from __future__ import annotations

import math
from functools import partial

import openvino

from biper.errors import ModelError
from biper.peers.int8 import PAIRS, Scheme, quantized
from biper.peers.onnx_graph import onnx_model
from biper.peers.openvino_graph import openvino_model
from biper.peers.plan import MOST, NEAR, Array, Job, Plan, Run


def plans() -> list[Plan]:
    """Float32, every form of int8, and the binary network with float layers in float32 and in bfloat16."""
    bfloat16 = partial(_binary, "bf16")
    return [
        Plan("openvino float32", "", _float32, twin=True),
        *(
            Plan("openvino int8", str(scheme), partial(_int8, scheme), twin=True, tolerance=NEAR, least=MOST)
            for scheme in PAIRS
        ),
        Plan("openvino binary", "", partial(_binary, "f32"), twin=False, least=MOST),
        Plan("openvino binary, bfloat16 float layers", "", bfloat16, twin=False, tolerance=math.inf),
    ]


def compiled(model: openvino.Model | bytes, threads: int, precision: str, **settings: str) -> openvino.CompiledModel:
    """A network compiled for short answers on ``threads``; ``precision`` of its float layers, "f32" or "bf16"."""
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    return core.compile_model(core.read_model(model) if isinstance(model, bytes) else model, "CPU", options | settings)


def convolutions_in_int8(network: openvino.CompiledModel) -> tuple[int, int]:
    """How many convolutions of a compiled network run in int8, and how many it has."""
    kinds = [op.get_rt_info() for op in network.get_runtime_model().get_ordered_ops()]
    names = [kind["primitiveType"].astype(str) for kind in kinds if kind["layerType"].astype(str) == "Convolution"]
    return sum(name.lower().endswith("i8") or name.lower().endswith("u8") for name in names), len(names)


def _float32(job: Job) -> Run:
    return _run(job, compiled(onnx_model(job.twin, len(job.images)).SerializeToString(), job.threads, "f32"))


def _int8(scheme: Scheme, job: Job) -> Run:
    network = compiled(quantized(job, scheme), job.threads, "f32")
    found, count = convolutions_in_int8(network)
    if found < count:
        raise ModelError(f"only {found} of {count} convolutions run in int8")
    return _run(job, network)


def _binary(precision: str, job: Job) -> Run:
    return _run(job, compiled(openvino_model(job.program, len(job.images)), job.threads, precision))


def _run(job: Job, network: openvino.CompiledModel) -> Run:
    request = network.create_infer_request()
    request.set_input_tensor(openvino.Tensor(job.images, shared_memory=True))
    results = request.get_output_tensor().data

    def run() -> Array:
        request.infer()
        return results

    return run
