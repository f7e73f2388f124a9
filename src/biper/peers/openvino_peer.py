"""OpenVINO on the processor: the network in full precision, and the program itself on OpenVINO's binary operator."""

from __future__ import annotations

import math
from functools import partial

import openvino

from biper.errors import ModelError
from biper.peers.int8 import PAIRS, Scheme, int8_onnx
from biper.peers.variant import INT8_TOLERANCE, MOST_IMAGES, Array, Call, Job, Network, Variant
from biper.targets.onnx.graph import onnx_model
from biper.targets.openvino.graph import openvino_model
from biper.targets.openvino.signal_stack import restored_signal_stack


def variants() -> list[Variant]:
    """Float32, every scheme of int8, and the program with float layers in float32, bfloat16 and int8."""
    float32, bfloat16 = partial(_binary, "f32"), partial(_binary, "bf16")
    return [
        Variant("openvino float32", "", Network.full_precision, _float32),
        *(
            Variant(
                "openvino int8",
                str(scheme),
                Network.full_precision,
                partial(_int8, scheme),
                INT8_TOLERANCE,
                MOST_IMAGES,
            )
            for scheme in PAIRS
        ),
        Variant("openvino binary", "", Network.float_layers, float32, least_share=MOST_IMAGES),
        Variant("openvino binary, bfloat16 float layers", "", Network.float_layers, bfloat16, tolerance=math.inf),
        Variant("openvino binary, int8 float layers", "", Network.program, float32, least_share=MOST_IMAGES),
    ]


def compiled(model: openvino.Model | bytes, threads: int, precision: str, **settings: str) -> openvino.CompiledModel:
    """A network compiled for low latency.

    Args:
        model: a graph, or an ONNX file.
        threads: how many threads share the work of one call.
        precision: of its float layers, ``"f32"`` or ``"bf16"``.
        settings: further settings of OpenVINO.
    """
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    with restored_signal_stack():
        core = openvino.Core()
        read = core.read_model(model) if isinstance(model, bytes) else model
        return core.compile_model(read, "CPU", options | settings)


def require_int8(network: openvino.CompiledModel, count: int) -> None:
    """Check that at least ``count`` convolutions of a compiled network run in int8.

    Raises:
        ModelError: fewer do.
    """
    kinds = [op.get_rt_info() for op in network.get_runtime_model().get_ordered_ops()]
    names = [kind["primitiveType"].astype(str) for kind in kinds if kind["layerType"].astype(str) == "Convolution"]
    found = sum(name.lower().endswith(("i8", "u8")) for name in names)
    if found < count:
        raise ModelError(f"OpenVINO runs {found} convolutions in int8 where {count} should be")


def _float32(job: Job) -> Call:
    return _call(job, compiled(onnx_model(job.program, len(job.images)).SerializeToString(), job.threads, "f32"))


def _int8(scheme: Scheme, job: Job) -> Call:
    network = compiled(int8_onnx(job.program, len(job.images), scheme), job.threads, "f32")
    require_int8(network, sum(op.operation == "convolution" for op in job.program.operations))
    return _call(job, network)


def _binary(precision: str, job: Job) -> Call:
    network = compiled(openvino_model(job.program, len(job.images)), job.threads, precision)
    require_int8(network, sum("input_factor" in op.attributes for op in job.program.operations))
    return _call(job, network)


def _call(job: Job, network: openvino.CompiledModel) -> Call:
    request = network.create_infer_request()
    request.set_input_tensor(openvino.Tensor(job.images, shared_memory=True))
    results: Array = request.get_output_tensor(0).data

    def call() -> Array:
        request.infer()
        return results

    return call
