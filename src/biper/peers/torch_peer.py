"""PyTorch on the processor: the network in full precision, eager in two memory layouts and as frozen TorchScript."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biper.errors import ModelError
from biper.peers.torch_arrays import batched, run_on_arrays
from biper.peers.variant import Array, Call, Job, Network, Variant
from biper.runtime.operations import OPERATIONS
from biper.runtime.program import Operation, Program
from biper.targets.real_layers import rounds_up


def variants() -> list[Variant]:
    """Float32 in three forms. Compilation by inductor took 20 s and was not faster than these."""
    forms: dict[str, Callable[[Job], Call]] = {
        "eager": _eager,
        "eager, channels last": _channels_last,
        "frozen TorchScript": _frozen,
    }
    return [Variant("torch float32", form, Network.full_precision, build) for form, build in forms.items()]


class TorchNetwork(nn.Module):
    """A network in full precision, in torch's functions.

    Args:
        program: what `biper.peers.full_precision` makes.
        layout: the memory layout of its weights.
    """

    def __init__(self, program: Program, layout: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.program = program
        for number, op in enumerate(program.operations):
            for key, array in op.tensors.items():
                tensor = torch.from_numpy(np.array(array))
                laid = tensor.contiguous(memory_format=layout) if tensor.dim() == 4 and key == "weight" else tensor
                self.register_buffer(f"{key}{number}", laid)

    def forward(self, image: Tensor) -> Tensor:
        values, shapes = {"image": image}, self.program.shapes
        for number, op in enumerate(self.program.operations):
            tensors = {key: getattr(self, f"{key}{number}") for key in op.tensors}
            if not OPERATIONS[op.operation].on_images:
                values[op.real or ""] = run_on_arrays(op, [values[name] for name in op.inputs], shapes, tensors)
                continue
            ceil = op.operation == "pool" and rounds_up(op, shapes[op.inputs[0]])
            inputs = [batched(values[name], shapes[name], image.shape[0]) for name in op.inputs]
            y = _operator(op, inputs, tensors, ceil)
            values[op.real or ""] = _epilogue(op, y, tensors, values)
        return batched(values[self.program.output], self.program.output_shape, image.shape[0])


def _operator(op: Operation, inputs: list[Tensor], tensors: dict[str, Tensor], ceil: bool) -> Tensor:
    x, a = inputs[0], op.attributes
    match op.operation:
        case "convolution":
            top, bottom, left, right = a["padding"]
            if (top, left) != (bottom, right):
                x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
            geometry = a["stride"], (top, left), a["dilation"], a["groups"]
            return F.conv2d(x, tensors["weight"], tensors["offset"], *geometry)
        case "pool":
            if a["kind"] == "max":
                return F.max_pool2d(x, a["kernel"], a["stride"], a["padding"], ceil_mode=ceil)
            return F.avg_pool2d(x, a["kernel"], a["stride"], a["padding"], ceil, a["count_padding"])
        case "pad_channels":
            return F.pad(x, (0, 0, 0, 0, a["before"], a["after"]))
        case "concatenate":
            return torch.cat(inputs, 1)
        case "resize":
            return F.interpolate(x, size=(a["height"], a["width"]))
        case "flatten":
            return x.reshape(x.shape[0], -1, 1, 1)
        case "elementwise":
            return x
    raise ModelError(f"{op.source}: torch has no operator here for {op.operation!r}")


def _epilogue(op: Operation, y: Tensor, tensors: dict[str, Tensor], values: dict[str, Tensor]) -> Tensor:
    if op.operation != "convolution":
        if "multiplier" in tensors:
            y = y * tensors["multiplier"].view(-1, 1, 1)
        if "offset" in tensors:
            y = y + tensors["offset"].view(-1, 1, 1)
    if op.residual is not None:
        y = y + values[op.residual]
    match op.attributes.get("activation"):
        case "relu":
            return F.relu(y)
        case "prelu":
            return F.prelu(y, tensors["slope"])
    return y


def _eager(job: Job) -> Call:
    return _call(job, TorchNetwork(job.program).eval())


def _channels_last(job: Job) -> Call:
    return _call(job, TorchNetwork(job.program, torch.channels_last).eval(), torch.channels_last)


def _frozen(job: Job) -> Call:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        trace: Callable[..., Any] = torch.jit.trace  # torch gives it no types
        traced = trace(TorchNetwork(job.program).eval(), torch.from_numpy(job.images))
        return _call(job, torch.jit.freeze(traced))


def _call(job: Job, network: Callable[[Tensor], Tensor], layout: torch.memory_format = torch.contiguous_format) -> Call:
    torch.set_num_threads(job.threads)
    images = torch.from_numpy(job.images)

    def call() -> Array:
        with torch.inference_mode():
            outputs: Array = network(images.contiguous(memory_format=layout)).numpy()
        return outputs

    return call
