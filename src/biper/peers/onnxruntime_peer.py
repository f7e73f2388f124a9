"""ONNX Runtime on the processor: the network in full precision, in float32 and in int8, one operator at a time."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime

from biper.peers.int8 import INT8_OPERATORS, PAIRS, Scheme, int8_onnx
from biper.peers.variant import INT8_TOLERANCE, MOST_IMAGES, Array, Call, Job, Network, Variant
from biper.targets.onnx.graph import onnx_model


def variants() -> list[Variant]:
    """Float32, and every scheme of int8."""
    return [
        Variant("onnxruntime float32", "", Network.full_precision, _float32),
        *(
            Variant(
                "onnxruntime int8",
                str(scheme),
                Network.full_precision,
                partial(_int8, scheme),
                INT8_TOLERANCE,
                MOST_IMAGES,
            )
            for scheme in (*PAIRS, *INT8_OPERATORS)
        ),
    ]


def _float32(job: Job) -> Call:
    return _session(job, onnx_model(job.program, len(job.images)).SerializeToString())


def _int8(scheme: Scheme, job: Job) -> Call:
    return _session(job, int8_onnx(job.program, len(job.images), scheme))


def _session(job: Job, model: bytes) -> Call:
    """A session whose input and output are bound once, so that a call does nothing but compute."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results = np.empty((len(job.images), *job.program.output_shape), np.float32)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (job.images, results)]
    binding = session.io_binding()
    binding.bind_ortvalue_input("image", values[0])
    binding.bind_ortvalue_output(session.get_outputs()[0].name, values[1])

    def call() -> Array:
        session.run_with_iobinding(binding)
        return results

    return call
