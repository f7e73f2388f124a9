"""A program as an ONNX graph of standard operators, in the forms that engines recognize and fuse."""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper

from biper.runtime.operations import OPERATIONS as EVERY_OPERATION
from biper.runtime.program import Program
from biper.targets.array_shapes import constant_values, output_names
from biper.targets.onnx import OPERATIONS
from biper.targets.onnx.arrays import ArrayNodes
from biper.targets.onnx.images import ImageNodes
from biper.targets.onnx.nodes import Nodes, whole
from biper.targets.operations import require_operations
from biper.targets.real_layers import with_rounded_inputs

OPSET = 20
IR_VERSION = 10
"""The version that came with opset 20; engines refuse files of versions that are newer than they are."""


def onnx_model(program: Program, batch: int | None = None) -> ModelProto:
    """The graph from ``"image"`` (batch, C, H, W), normalized, to the program's results, all float32.

    Further inputs and results have their names in the program; where another value has the name of a result,
    ``_output`` is appended to it. Every input and every output has a batch axis in front. The metadata of the file are
    ``mean`` and ``std``, for pixels scaled to [0, 1], ``classes``, and ``preprocessing`` where the program has it, each
    as JSON; see `biper.runtime.program`.

    Args:
        program: a validated program.
        batch: images of one call; None for any number.

    Raises:
        ExportError: ONNX has no operator for an operation.
        ModelError: a pool has a number of windows that ONNX cannot have.
    """
    require_operations(program, "ONNX", OPERATIONS)
    program = with_rounded_inputs(program)
    graph = _Graph(program, batch)
    names = ("image", *program.inputs)
    inputs = [graph.described(name, name) for name in names]
    results = [graph.result(graph.outputs[name], value) for name, value in program.results.items()]
    made = helper.make_graph(graph.nodes.nodes, "biper", inputs, results, graph.nodes.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    described: dict[str, Any] = {"mean": program.mean, "std": program.std, "classes": program.classes}
    if program.preprocessing is not None:
        described["preprocessing"] = program.preprocessing.to_json()
    helper.set_model_props(model, {key: json.dumps(value) for key, value in described.items()})
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes of a program's operations, and its results."""

    def __init__(self, program: Program, batch: int | None) -> None:
        self.shapes, self.batch = program.shapes, batch
        self.constants = constant_values(program)
        self.outputs = output_names(program)
        self.nodes = Nodes({*self.shapes, *self.outputs.values()})
        self.with_batch: dict[str, str] = {}
        images = ImageNodes(self.nodes, self.shapes, self.batched)
        arrays = ArrayNodes(self.nodes, self.shapes, self.constants, self.batched)
        for op in program.operations:
            (images if EVERY_OPERATION[op.operation].on_images else arrays).add(op)

    def batched(self, name: str) -> str:
        """A value with its batch axis, which those that are the same for every image do not have."""
        if name not in self.constants:
            return name
        if name not in self.with_batch:
            images = whole([self.batch or 1])
            count = self.nodes.add("Shape", "image", start=0, end=1) if self.batch is None else images
            size = self.nodes.add("Concat", count, whole(self.shapes[name]), axis=0)
            self.with_batch[name] = self.nodes.add("Expand", name, size)
        return self.with_batch[name]

    def result(self, name: str, value: str) -> ValueInfoProto:
        """Make a value an output of the graph."""
        source = self.batched(value)
        if source != name:
            self.nodes.add("Identity", source, name=name)
        return self.described(name, value)

    def described(self, name: str, value: str) -> ValueInfoProto:
        """The type of an input or output which is a value of the program."""
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch or "N", *self.shapes[value]])
