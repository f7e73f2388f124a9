"""Operations on images in ONNX: the nodes of each, of its epilogue and of its bits.

Bits are -1 and +1 in float32, so that a binary convolution is a `Conv` whose sums are exact integers. Its weights are
stored as bits, and nodes of the graph expand them, which engines do once, on loading. Int8 convolutions are
`ConvInteger`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from biper.runtime.program import Operation, Shape
from biper.targets.onnx import OPERATIONS
from biper.targets.onnx.nodes import Nodes, whole
from biper.targets.operations import unsupported
from biper.targets.real_layers import rounds_up


class ImageNodes:
    """Writes operations on images.

    Args:
        nodes: where nodes are added.
        shapes: of the program's values.
        batched: adds the batch axis to a value, given its name, where it has none; returns the name of the result.
    """

    def __init__(self, nodes: Nodes, shapes: dict[str, Shape], batched: Callable[[str], str]) -> None:
        self.nodes, self.shapes, self.batched = nodes, shapes, batched

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
            value = self.nodes.add(kind, *inputs, name=None if steps else op.real, **attributes)
        for number, (step, rest) in enumerate(steps, 1):
            value = self.nodes.add(step, value, *rest, name=op.real if number == len(steps) else None)
        if op.bits is not None:
            self.signs(op, value)

    def signs(self, op: Operation, value: str) -> None:
        """Add the nodes of an operation's bits, as -1 and +1."""
        least: NDArray[Any] = np.zeros((), np.float32)
        above: NDArray[Any] = np.ones(1, np.float32)
        if "threshold" in op.tensors:
            least = _by_channel(op.tensors["threshold"].astype(np.float32))
            above = _by_channel(1 - 2 * op.tensors["flip"].astype(np.float32))
        positive = self.nodes.add("GreaterOrEqual", value, least)
        self.nodes.add("Where", positive, above, -above, name=op.bits)

    def weight_of_bits(self, op: Operation) -> str:
        """Add the nodes that expand weight bits to -1 and +1 (O, I / groups, kh, kw); returns the result's name."""
        n, packed = self.nodes.add, op.tensors["weight"]
        inside = self.shapes[op.inputs[0]][0] // op.attributes["groups"]
        bytes_apart = n("Unsqueeze", packed, whole([4]))
        shifted = n("BitShift", bytes_apart, np.arange(8, dtype=np.uint8), direction="RIGHT")
        bits = n("BitwiseAnd", shifted, np.uint8(1))
        joined = n("Reshape", bits, whole([*packed.shape[:3], -1]))
        used = n("Slice", joined, *(whole([end]) for end in (0, inside, 3)))
        real = n("Cast", n("Transpose", used, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
        return n("Sub", n("Mul", real, np.float32(2)), np.float32(1))

    def levels(self, op: Operation) -> str:
        """Add the nodes that round the input of an int8 convolution to uint8; returns the name of the result."""
        n, zero = self.nodes.add, op.attributes["input_zero"]
        scaled = n("Mul", self.batched(op.inputs[0]), np.float32(op.attributes["input_factor"]))
        clipped = n("Clip", scaled, np.float32(-zero), np.float32(255 - zero))
        return n("Cast", n("Add", n("Round", clipped), np.float32(zero)), to=TensorProto.UINT8)

    def operator(self, op: Operation) -> tuple[str, list[Any], dict[str, Any]]:
        """The operator, inputs and attributes of an operation without its epilogue."""
        x, get = self.batched(op.inputs[0]), op.attributes.get
        match op.operation:
            case "convolution" | "binary_convolution":
                top, bottom, left, right = op.attributes["padding"]
                attributes = {"strides": get("stride"), "dilations": get("dilation"), "group": get("groups")}
                attributes["pads"] = [top, left, bottom, right]
                weight = op.tensors["weight"]
                if weight.dtype == np.int8:
                    zero = np.uint8(op.attributes["input_zero"])
                    sums = self.nodes.add("ConvInteger", self.levels(op), weight, zero, **attributes)
                    return "Cast", [sums], {"to": TensorProto.FLOAT}
                if weight.dtype == np.uint8:
                    return "Conv", [x, self.weight_of_bits(op)], attributes
                bias = [op.tensors["offset"]] if _has_bias(op) else []
                return "Conv", [x, weight.astype(np.float32), *bias], attributes
            case "pool":
                kernel, stride, padding = op.attributes["kernel"], op.attributes["stride"], op.attributes["padding"]
                attributes = {"kernel_shape": kernel, "strides": stride, "pads": [*padding, *padding]}
                attributes["ceil_mode"] = int(rounds_up(op, self.shapes[op.inputs[0]]))
                if get("kind") == "max":
                    return "MaxPool", [x], attributes
                return "AveragePool", [x], attributes | {"count_include_pad": int(op.attributes["count_padding"])}
            case "pad_channels":
                return "Pad", [x, whole([0, op.attributes["before"], 0, 0, 0, op.attributes["after"], 0, 0])], {}
            case "concatenate":
                return "Concat", [x, *map(self.batched, op.inputs[1:])], {"axis": 1}
            case "resize":
                rule = {"coordinate_transformation_mode": "asymmetric", "mode": "nearest", "nearest_mode": "floor"}
                return "Resize", [x, "", "", whole(op.shape[1:])], rule | {"axes": [2, 3]}
            case "flatten":
                return "Reshape", [x, whole([0, -1, 1, 1])], {}
            case "elementwise":
                return "Identity", [x], {}
        raise unsupported(op, "ONNX", OPERATIONS)


def _has_bias(op: Operation) -> bool:
    """Whether the offset of an operation is the bias of its `Conv`."""
    weight = op.tensors.get("weight")
    real = weight is not None and weight.dtype in (np.float32, np.float16)
    return real and "offset" in op.tensors and "multiplier" not in op.tensors


def _by_channel(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.reshape(-1, 1, 1)
