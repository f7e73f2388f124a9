"""A float twin as an ONNX graph, in the operators that float engines recognize and fuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from biper.peers.twin import rounds_up
from biper.runtime.program import Operation, Program, Shape

OPSET = 20
IR_VERSION = 10
"""Of opset 20's time: engines refuse files whose version is newer than they are."""


def onnx_model(program: Program, batch: int) -> ModelProto:
    """The graph: ``"image"`` (batch, C, H, W), normalized, to the program's output, both float32.

    Args:
        program: what `biper.peers.twin.float_twin` makes.
        batch: images of one call.
    """
    graph = _Graph(batch, program.shapes)
    for op in program.operations:
        graph.add(op)
    image, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *program.shapes[name]])
        for name in ("image", program.output)
    )
    made = helper.make_graph(graph.nodes, "biper", [image], [output], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants so far; values keep their names, what stands between them is numbered."""

    def __init__(self, batch: int, shapes: Mapping[str, Shape]) -> None:
        self.batch = batch
        self.shapes = shapes
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, op: Operation) -> None:
        """One operation: its own operator, then a node for each step of its epilogue."""
        tensors = op.tensors
        steps: list[tuple[str, Sequence[Any]]] = []
        if op.operation != "convolution":
            steps += [("Mul", [_by_channel(tensors["multiplier"])])] if "multiplier" in tensors else []
            steps += [("Add", [_by_channel(tensors["offset"])])] if "offset" in tensors else []
        if op.residual is not None:
            steps.append(("Add", [op.residual]))
        match op.attributes.get("activation"):
            case "relu":
                steps.append(("Relu", []))
            case "prelu":
                steps.append(("PRelu", [_by_channel(tensors["slope"])]))
        kind, inputs, attributes = self.operator(op)
        if kind == "Identity" and steps:
            value = inputs[0]
        else:
            value = self.node(kind, inputs, None if steps else op.real, **attributes)
        for number, (step, rest) in enumerate(steps, 1):
            value = self.node(step, [value, *rest], op.real if number == len(steps) else None)

    def operator(self, op: Operation) -> tuple[str, list[Any], dict[str, Any]]:
        """The operator, inputs and attributes of an operation without its epilogue."""
        x, get = op.inputs[0], op.attributes.get
        match op.operation:
            case "convolution":
                top, bottom, left, right = op.attributes["padding"]
                attributes = {"strides": get("stride"), "dilations": get("dilation"), "group": get("groups")}
                attributes["pads"] = [top, left, bottom, right]
                return "Conv", [x, op.tensors["weight"], op.tensors["offset"]], attributes
            case "pool":
                kernel, stride, padding = op.attributes["kernel"], op.attributes["stride"], op.attributes["padding"]
                attributes = {"kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding]}
                attributes["ceil_mode"] = int(rounds_up(op, self.shapes[x]))
                if get("kind") == "max":
                    return "MaxPool", [x], attributes
                return "AveragePool", [x], attributes | {"count_include_pad": int(op.attributes["count_padding"])}
            case "pad_channels":
                pads = [0, op.attributes["before"], 0, 0, 0, op.attributes["after"], 0, 0]
                return "Pad", [x, np.array(pads, np.int64)], {}
            case "concatenate":
                return "Concat", list(op.inputs), {"axis": 1}
            case "resize":
                rule = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
                return "Resize", [x, "", "", np.array([self.batch, *op.shape], np.int64)], rule
            case "flatten":
                return "Reshape", [x, np.array([0, -1, 1, 1], np.int64)], {}
        return "Identity", [x], {}

    def node(self, kind: str, inputs: Sequence[Any], name: str | None, **attributes: Any) -> str:
        """A node whose inputs are names or constants; returns the name of its output."""
        output = name or f"step{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], name=f"node{len(self.nodes)}", **attributes))
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """A constant; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _by_channel(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.reshape(-1, 1, 1)
