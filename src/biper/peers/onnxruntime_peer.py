"""ONNX Runtime: the float twin in float32 and in int8, on the processor, one operator after another."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime

from biper.peers.int8 import OPERATORS, PAIRS, Scheme, quantized
from biper.peers.plan import MOST, NEAR, Array, Job, Network, Plan, Run
from biper.targets.onnx.graph import onnx_model


def plans() -> list[Plan]:
    """Float32, and every form of int8."""
    return [
        Plan("onnxruntime float32", "", Network.float_twin, _float32),
        *(
            Plan("onnxruntime int8", str(scheme), Network.float_twin, partial(_int8, scheme), NEAR, MOST)
            for scheme in (*PAIRS, *OPERATORS)
        ),
    ]


def _float32(job: Job) -> Run:
    return _session(job, onnx_model(job.program, len(job.images)).SerializeToString())


def _int8(scheme: Scheme, job: Job) -> Run:
    return _session(job, quantized(job.program, len(job.images), scheme))


def _session(job: Job, model: bytes) -> Run:
    """A session whose input and output are bound once, so that a call costs as little as it can."""
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
    binding.bind_ortvalue_output(job.program.output, values[1])

    def run() -> Array:
        session.run_with_iobinding(binding)
        return results

    return run
