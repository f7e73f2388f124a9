"""A program as an ONNX graph of standard operators, in the forms that engines recognize and fuse.

Bits are -1 and +1 in float32, so that a binary convolution is a `Conv` whose sums are exact integers. Its weights are
stored as bits, and nodes of the graph expand them, which engines do once, on loading. Int8 convolutions are
`ConvInteger`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from biper.runtime.program import Operation, Program, Shape
from biper.targets.onnx import OPERATIONS
from biper.targets.operations import unsupported
from biper.targets.real_layers import rounds_up

OPSET = 20
IR_VERSION = 10
"""The version that came with opset 20; engines refuse files of versions that are newer than they are."""


def onnx_model(program: Program, batch: int | None = None) -> ModelProto:
    """The graph from ``"image"`` (batch, C, H, W), normalized, to the program's output, both float32.

    Its metadata are ``mean`` and ``std``, for pixels scaled to [0, 1], ``classes``, and ``preprocessing`` where the
    program has it, each as JSON; see `biper.runtime.program`.

    Args:
        program: a validated program.
        batch: images of one call; None for any number.

    Raises:
        ExportError: ONNX has no operator for an operation.
        ModelError: a pool has a number of windows that ONNX cannot have.
    """
    graph = _Graph(program.shapes)
    for op in program.operations:
        graph.add(op)
    image, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N" if batch is None else batch, *program.shapes[name]])
        for name in ("image", program.output)
    )
    made = helper.make_graph(graph.nodes, "biper", [image], [output], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    described: dict[str, Any] = {"mean": program.mean, "std": program.std, "classes": program.classes}
    if program.preprocessing is not None:
        described["preprocessing"] = program.preprocessing.to_json()
    helper.set_model_props(model, {key: json.dumps(value) for key, value in described.items()})
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Collects nodes and constants. Values of the program keep their names; names of what is between are numbered."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, op: Operation) -> None:
        """Add the nodes of one operation: its operator, then each step of its epilogue, then its bits."""
        tensors = op.tensors
        steps: list[tuple[str, Sequence[Any]]] = []
        if "multiplier" in tensors:
            steps.append(("Mul", [_by_channel(tensors["multiplier"])]))
        if "offset" in tensors and not _has_bias(op):
            steps.append(("Add", [_by_channel(tensors["offset"])]))
        if op.residual is not None:
            steps.append(("Add", [op.residual]))
        match op.attributes.get("activation"):
            case "clip":
                steps.append(("Clip", [np.float32(op.attributes[end]) for end in ("low", "high")]))
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
        if op.bits is not None:
            self.signs(op, value)

    def signs(self, op: Operation, value: str) -> None:
        """Add the nodes of an operation's bits, as -1 and +1."""
        least: NDArray[Any] = np.zeros((), np.float32)
        above: NDArray[Any] = np.ones(1, np.float32)
        if "threshold" in op.tensors:
            least = _by_channel(op.tensors["threshold"].astype(np.float32))
            above = _by_channel(1 - 2 * op.tensors["flip"].astype(np.float32))
        positive = self.node("GreaterOrEqual", [value, least], None)
        self.node("Where", [positive, above, -above], op.bits)

    def weight_of_bits(self, op: Operation) -> str:
        """Add the nodes that expand weight bits to -1 and +1 (O, I / groups, kh, kw); returns the result's name."""
        packed = op.tensors["weight"]
        inside = self.shapes[op.inputs[0]][0] // op.attributes["groups"]
        bytes_apart = self.node("Unsqueeze", [packed, np.array([4], np.int64)], None)
        shifted = self.node("BitShift", [bytes_apart, np.arange(8, dtype=np.uint8)], None, direction="RIGHT")
        bits = self.node("BitwiseAnd", [shifted, np.uint8(1)], None)
        joined = self.node("Reshape", [bits, np.array([*packed.shape[:3], -1], np.int64)], None)
        ends = (np.array([end], np.int64) for end in (0, inside, 3))
        used = self.node("Slice", [joined, *ends], None)
        ordered = self.node("Transpose", [used], None, perm=[0, 3, 1, 2])
        real = self.node("Cast", [ordered], None, to=TensorProto.FLOAT)
        return self.node("Sub", [self.node("Mul", [real, np.float32(2)], None), np.float32(1)], None)

    def levels(self, op: Operation) -> str:
        """Add the nodes that round the input of an int8 convolution to uint8; returns the name of the result."""
        zero = op.attributes["input_zero"]
        scaled = self.node("Mul", [op.inputs[0], np.float32(op.attributes["input_factor"])], None)
        clipped = self.node("Clip", [scaled, np.float32(-zero), np.float32(255 - zero)], None)
        whole = self.node("Add", [self.node("Round", [clipped], None), np.float32(zero)], None)
        return self.node("Cast", [whole], None, to=TensorProto.UINT8)

    def operator(self, op: Operation) -> tuple[str, list[Any], dict[str, Any]]:
        """The operator, inputs and attributes of an operation without its epilogue."""
        x, get = op.inputs[0], op.attributes.get
        match op.operation:
            case "convolution" | "binary_convolution":
                top, bottom, left, right = op.attributes["padding"]
                attributes = {"strides": get("stride"), "dilations": get("dilation"), "group": get("groups")}
                attributes["pads"] = [top, left, bottom, right]
                weight = op.tensors["weight"]
                if weight.dtype == np.int8:
                    zero = np.uint8(op.attributes["input_zero"])
                    sums = self.node("ConvInteger", [self.levels(op), weight, zero], None, **attributes)
                    return "Cast", [sums], {"to": TensorProto.FLOAT}
                if weight.dtype == np.uint8:
                    return "Conv", [x, self.weight_of_bits(op)], attributes
                bias = [op.tensors["offset"]] if _has_bias(op) else []
                return "Conv", [x, weight.astype(np.float32), *bias], attributes
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
                return "Resize", [x, "", "", np.array(op.shape[1:], np.int64)], rule | {"axes": [2, 3]}
            case "flatten":
                return "Reshape", [x, np.array([0, -1, 1, 1], np.int64)], {}
            case "elementwise":
                return "Identity", [x], {}
        raise unsupported(op, "ONNX", OPERATIONS)

    def node(self, kind: str, inputs: Sequence[Any], name: str | None, **attributes: Any) -> str:
        """Add a node whose inputs are names or constants; returns the name of its output, a new one for None."""
        output = name or f"step{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], name=f"node{len(self.nodes)}", **attributes))
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _has_bias(op: Operation) -> bool:
    """Whether the offset of an operation is the bias of its `Conv`."""
    weight = op.tensors.get("weight")
    real = weight is not None and weight.dtype in (np.float32, np.float16)
    return real and "offset" in op.tensors and "multiplier" not in op.tensors


def _by_channel(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.reshape(-1, 1, 1)
