"""A program as a graph of OpenVINO's operators, binary convolutions included: the same sums, bit for bit.

OpenVINO's ``BinaryConvolution`` (operation set 1, ``xnor-popcount``) needs inputs of 0 and 1 that a ``FakeQuantize`` of
two levels emits, 1 for +1; weight bits in the order (O, I, kh, kw), the first in the lowest bit; and a ``pad_value`` of
0, which leaves padded taps out of the sum. Its results are wrong, without an error, unless the input channels are a
multiple of 8. OpenVINO fuses into it the multiplier, offset, residual and clip that follow. It also fuses a
``FakeQuantize`` that is the only reader; then the operator emits bits, not floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset1, opset11

from biper.errors import ModelError
from biper.runtime.operations import OPERATIONS as EVERY_OPERATION
from biper.runtime.program import Operation, Program, Shape, unpack_weight
from biper.targets.array_shapes import constant_values, output_names
from biper.targets.openvino import OPERATIONS
from biper.targets.openvino.arrays import ArrayNodes
from biper.targets.operations import require_operations, unsupported
from biper.targets.real_layers import folded_weight, rounds_up, with_rounded_inputs

JUST_BELOW_ZERO = -np.finfo(np.float32).tiny
"""The threshold for ``x >= 0``, because the bit of a FakeQuantize is ``x > threshold``."""


def openvino_model(program: Program, batch: int, *, in_float: bool = False) -> openvino.Model:
    """The graph, from normalized images (batch, C, H, W) and further inputs to the program's results, all float32.

    Its inputs and outputs stand in the order of the program and have a batch axis in front.

    Args:
        program: a validated program.
        batch: images of one call.
        in_float: write binary convolutions that OpenVINO's operator cannot compute as float32 ones, on -1 and +1.

    Raises:
        ExportError: OpenVINO has no operator for an operation.
        ModelError: a binary convolution has groups or channels that OpenVINO's operator cannot
            compute, and ``in_float`` is not set.
    """
    require_operations(program, "OpenVINO", OPERATIONS)
    program = with_rounded_inputs(program)
    shapes = program.shapes
    names = ("image", *program.inputs)
    parameters = {name: opset11.parameter([batch, *shapes[name]], np.float32, name=name) for name in names}
    values: dict[str, Any] = dict(parameters)
    signs: dict[str, Any] = {}
    sums = {op.real for op in program.operations if op.operation == "binary_convolution" and op.residual is not None}
    arrays = ArrayNodes(shapes, constant_values(program), batch)
    for op in program.operations:
        if not EVERY_OPERATION[op.operation].on_images:
            values[op.real or ""] = arrays.made(op, values)
            continue
        inputs, channels = [arrays.batched(name, values) for name in op.inputs], shapes[op.inputs[0]][0]
        if in_float and op.operation == "binary_convolution" and not is_exact(op, channels):
            y = _on_signs(op, signs[op.inputs[0]], channels)
        else:
            y = _operator(op, inputs, shapes[op.inputs[0]], batch)
        if "threshold" in op.tensors:
            least = op.tensors["threshold"].astype(np.float32)
            low = _constant(least - np.float32(0.5))
            flip = op.tensors["flip"].astype(np.float32)
            values[op.bits or ""] = opset11.fake_quantize(y, low, low, _constant(flip), _constant(1 - flip), 2)
            signs[op.bits or ""] = _signs(y, least, 1 - 2 * flip)
            continue
        y = _epilogue(op, y, values)
        if op.real is not None:
            values[op.real] = y
        if op.bits is not None and op.inputs[0] in sums and _has_threshold(op):
            values[op.bits] = _above_threshold(op, inputs[0])
            signs[op.bits] = _signs(y, np.zeros(1, np.float32), np.ones(1, np.float32))
        elif op.bits is not None:
            zero, one, low = (_constant(np.array([number], np.float32)) for number in (0, 1, JUST_BELOW_ZERO))
            values[op.bits] = opset11.fake_quantize(y, low, low, zero, one, 2)
            signs[op.bits] = _signs(y, np.zeros(1, np.float32), np.ones(1, np.float32))
    outputs = output_names(program)
    results = []
    for name, value in program.results.items():
        node = opset11.result(arrays.batched(value, values))
        node.output(0).get_tensor().set_names({outputs[name]})
        results.append(node)
    return openvino.Model(results, list(parameters.values()))


def _operator(op: Operation, inputs: list[Any], shape: Shape, batch: int) -> Any:
    x, a = inputs[0], op.attributes
    match op.operation:
        case "convolution":
            top, bottom, left, right = a["padding"]
            geometry = a["stride"], [top, left], [bottom, right], a["dilation"]
            if "input_factor" in a:
                return _int8_convolution(op, x, geometry)
            weight, offset = folded_weight(op, shape[0])
            return opset11.add(_real_convolution(x, weight, geometry, a["groups"]), _constant(offset))
        case "binary_convolution":
            return binary_convolution(op, x, shape[0])
        case "pool":
            rounding = "ceil" if rounds_up(op, shape) else "floor"
            geometry = a["stride"], a["padding"], a["padding"], a["kernel"]
            if a["kind"] == "max":
                return opset1.max_pool(x, *geometry, rounding)
            return opset1.avg_pool(x, *geometry, not a["count_padding"], rounding)
        case "pad_channels":
            before, after = ([0, a[key], 0, 0] for key in ("before", "after"))
            return opset11.pad(x, _whole(before), _whole(after), "constant", opset11.constant(np.float32(0)))
        case "concatenate":
            return opset11.concat(inputs, 1)
        case "resize":
            size, axes = _whole([a["height"], a["width"]]), _whole([2, 3])
            rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return opset11.interpolate(x, size, "nearest", "sizes", axes=axes, **rule)
        case "flatten":
            return opset11.reshape(x, _whole([batch, -1, 1, 1]), False)
        case "elementwise":
            return x
    raise unsupported(op, "OpenVINO", OPERATIONS)


def _real_convolution(x: Any, weight: NDArray[np.float32], geometry: tuple[Any, ...], groups: int) -> Any:
    if groups == 1:
        return opset11.convolution(x, _constant(weight, None), *geometry)
    split = (groups, len(weight) // groups, *weight.shape[1:])
    return opset11.group_convolution(x, _constant(weight.reshape(split), None), *geometry)


def _has_threshold(op: Operation) -> bool:
    """Whether an operation takes the signs of an affine alone, ``m x + o >= 0`` where no m is 0."""
    alone = op.operation == "elementwise" and op.residual is None and "activation" not in op.attributes
    return alone and "offset" in op.tensors and bool(op.tensors.get("multiplier", np.ones(1)).all())


def _above_threshold(op: Operation, x: Any) -> Any:
    """The bits of ``m x + o >= 0`` as those of ``x >= -o / m``, or of ``x <= -o / m`` where m is negative.

    OpenVINO 2026 computes other bits where a ``FakeQuantize`` follows an affine, and this a binary convolution with a
    residual sum: it fuses all of them.
    """
    multiplier = op.tensors.get("multiplier", np.ones(op.shape[0], np.float32))
    threshold = (-op.tensors["offset"] / multiplier).astype(np.float32)
    flip = (multiplier < 0).astype(np.float32)
    below = np.minimum(np.nextafter(threshold, np.float32(-np.inf)), threshold - np.finfo(np.float32).tiny)
    low = _constant(np.where(flip == 1, threshold, below).astype(np.float32))
    return opset11.fake_quantize(x, low, low, _constant(flip), _constant(1 - flip), 2)


def _on_signs(op: Operation, signs: Any, channels: int) -> Any:
    """A binary convolution in float32 on -1 and +1, whose sums are the same integers."""
    top, bottom, left, right = op.attributes["padding"]
    geometry = op.attributes["stride"], [top, left], [bottom, right], op.attributes["dilation"]
    return _real_convolution(signs, op.real_weight(channels), geometry, op.attributes["groups"])


def _signs(y: Any, least: NDArray[np.float32], above: NDArray[np.float32]) -> Any:
    """``above`` where y >= ``least``, else its negative. With FakeQuantize, OpenVINO would run float layers in int8."""
    return opset11.select(opset11.greater_equal(y, _constant(least)), _constant(above), _constant(-above))


def is_exact(op: Operation, channels: int) -> bool:
    """Whether OpenVINO's binary operator computes a binary convolution that reads ``channels`` correctly."""
    return bool(op.attributes["groups"] == 1 and channels % 8 == 0)


def _int8_convolution(op: Operation, x: Any, geometry: tuple[Any, ...]) -> Any:
    """An int8 convolution as rounded inputs and scaled int8 weights, which OpenVINO recognizes and computes in int8."""
    factor, zero = np.float32(op.attributes["input_factor"]), op.attributes["input_zero"]
    low, high = (_constant(np.array([level / factor])) for level in (-zero, 255 - zero))
    levels = opset11.fake_quantize(x, low, high, low, high, 256)
    scale = _constant(op.tensors["multiplier"] * factor, (-1, 1, 1, 1))
    weight = opset11.multiply(opset11.convert(opset11.constant(op.tensors["weight"]), np.float32), scale)
    return opset11.add(opset11.convolution(levels, weight, *geometry), _constant(op.tensors["offset"]))


def binary_convolution(op: Operation, x: Any, channels: int) -> Any:
    """A binary convolution without its epilogue, as OpenVINO's binary operator.

    Args:
        op: the binary convolution.
        x: the node of its input, bits of 0 and 1.
        channels: of its input.

    Raises:
        ModelError: it has groups, or input channels that are not a multiple of 8.
    """
    if not is_exact(op, channels):
        raise ModelError(
            f"{op.source}: OpenVINO's binary operator takes one group and a multiple of 8 channels, "
            f"not {op.attributes['groups']} and {channels}"
        )
    positive = unpack_weight(op.tensors["weight"], channels) > 0
    bits = np.packbits(positive.reshape(-1), bitorder="little")
    tensor = openvino.Tensor(bits, openvino.Shape(list(positive.shape)), openvino.Type.u1)
    weight = openvino.op.Constant(tensor, shared_memory=False)  # shared memory would be read after it is freed
    top, bottom, left, right = op.attributes["padding"]
    geometry = op.attributes["stride"], [top, left], [bottom, right], op.attributes["dilation"]
    return opset1.binary_convolution(x, weight, *geometry, "xnor-popcount", 0.0)


def _epilogue(op: Operation, y: Any, values: dict[str, Any]) -> Any:
    if op.operation != "convolution":
        if "multiplier" in op.tensors:
            y = opset11.multiply(y, _constant(op.tensors["multiplier"]))
        if "offset" in op.tensors:
            y = opset11.add(y, _constant(op.tensors["offset"]))
    if op.residual is not None:
        y = opset11.add(y, values[op.residual])
    match op.attributes.get("activation"):
        case "clip":
            return opset11.clamp(y, op.attributes["low"], op.attributes["high"])
        case "relu":
            return opset11.relu(y)
        case "prelu":
            return opset11.prelu(y, _constant(op.tensors["slope"]))
    return y


def _constant(numbers: NDArray[Any], shape: tuple[int, ...] | None = (1, -1, 1, 1)) -> Any:
    array = np.ascontiguousarray(numbers, np.float32)
    return opset11.constant(array if shape is None else array.reshape(shape))


def _whole(numbers: list[int]) -> Any:
    return opset11.constant(np.array(numbers, np.int64))
