"""The calls that build an engine, written as the bytes that fuzz_engine.cc reads: seeds for that fuzzer."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any
from unittest import mock

from biper import _native
from biper.errors import ModelFormatError
from biper.runtime import engine
from biper.runtime.program import Program

METHODS = (
    "add_convolution", "add_int8_convolution", "add_binary_convolution", "add_pool", "add_elementwise",
    "add_pad_channels", "add_concatenate", "add_resize", "add_flatten", "add_input", "add_constant", "add_function",
    "add_reduction", "add_normalization", "add_softmax", "add_product", "add_sample", "add_copies",
    "add_bfloat16_convolution", "add_image",
)  # fmt: skip

FUNCTIONS = (
    "abs", "atan", "ceil", "clip", "cos", "elu", "erf", "exp", "expm1", "floor", "gelu", "gelu_tanh", "hardsigmoid",
    "hardswish", "leaky_relu", "log", "log1p", "mish", "negative", "power_by", "reciprocal", "relu", "round", "rsqrt",
    "sigmoid", "sign", "silu", "sin", "softplus", "sqrt", "square", "tanh", "add", "divide", "equal", "greater",
    "greater_equal", "less", "less_equal", "maximum", "minimum", "multiply", "not_equal", "power", "subtract",
    "select", "bfloat16", "other",
)  # fmt: skip

REDUCTIONS = ("sum", "mean", "max", "min", "product", "other")
ACTIVATIONS = ("", "clip", "relu", "prelu", "other")
LARGEST_LIST = 255


class TooLong(Exception):
    """A list of a call has more numbers than a byte can count."""


def calls_of(program: Program, *, instruction_set: int = 0) -> bytes:
    """The bytes of the calls that build an engine for a program, and of its results.

    Args:
        program: a validated program.
        instruction_set: the number of the instruction set among those that fuzz_engine.cc knows.

    Raises:
        TooLong: the program has a list that does not fit.
        ModelFormatError: the engine refuses the program.
    """
    recorder = _Recorder()
    with mock.patch.object(engine, "_native", recorder):
        engine.Engine(program, "scalar")
    views = b"".join(recorder.outputs)
    if len(recorder.outputs) > LARGEST_LIST:
        raise TooLong
    start = struct.pack("<3iBB", *program.input_shape, instruction_set, len(recorder.outputs))
    return start + views + b"".join(recorder.calls)


def seeds(programs: Iterable[Program]) -> list[bytes]:
    """The calls of each program for which they can be written, for two instruction sets in turn."""
    found = []
    for number, program in enumerate(programs):
        try:
            found.append(calls_of(program, instruction_set=number % 2))
        except (TooLong, ModelFormatError):
            continue
    return found


class _Recorder:
    """Stands for the native extension: each call goes to the real one, and is written down."""

    Epilogue = _native.Epilogue

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.outputs: list[bytes] = []

    def Engine(self, *arguments: Any) -> _RecordedEngine:
        return _RecordedEngine(self, _native.Engine(*arguments))

    @staticmethod
    def View(value: int, sizes: Any, strides: Any, offset: int) -> _View:
        return _View(value, list(sizes), list(strides), offset)


class _View:
    def __init__(self, value: int, sizes: list[int], strides: list[int], offset: int) -> None:
        self.native = _native.View(value, sizes, strides, offset)
        self.written = struct.pack("<i", value) + _list("q", sizes) + _list("q", strides) + struct.pack("<q", offset)


class _RecordedEngine:
    def __init__(self, recorder: _Recorder, native: Any) -> None:
        self._recorder, self._native = recorder, native

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._native, name)
        if not name.startswith("add_"):
            return method

        def call(*arguments: Any) -> Any:
            if name == "add_output":
                self._recorder.outputs.append(arguments[0].written)
            else:
                self._recorder.calls.append(bytes([METHODS.index(name)]) + _WRITERS[name](*arguments))
            return method(*(_native_of(argument) for argument in arguments))

        return call


def _native_of(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_native_of(item) for item in argument]
    return argument.native if isinstance(argument, _View) else argument


def _list(kind: str, numbers: Any) -> bytes:
    if len(numbers) > LARGEST_LIST:
        raise TooLong
    return bytes([len(numbers)]) + struct.pack(f"<{len(numbers)}{kind}", *numbers)


def _views(views: list[_View]) -> bytes:
    return bytes([len(views)]) + b"".join(view.written for view in views)


def _epilogue(given: Any) -> bytes:
    lists = [given.multiplier, given.offset, given.slope, given.threshold, given.flip]
    flags = sum(1 << bit for bit, numbers in enumerate(lists) if len(numbers)) + 32 * given.real + 64 * given.bits
    counts = b"".join(struct.pack("<i", len(numbers)) for numbers in lists if len(numbers))
    rest = struct.pack("<Bffi", ACTIVATIONS.index(given.activation), given.low, given.high, given.residual)
    return bytes([flags]) + counts + rest


def _convolution(reads: int, weight: Any, geometry: list[int], *rest: Any) -> bytes:
    *levels, epilogue = rest
    middle = struct.pack("<fi", *levels) if levels else b""
    return struct.pack("<i", reads) + _list("i", weight.shape) + _list("i", geometry) + middle + _epilogue(epilogue)


_WRITERS: dict[str, Any] = {
    "add_convolution": _convolution,
    "add_int8_convolution": _convolution,
    "add_bfloat16_convolution": _convolution,
    "add_binary_convolution": _convolution,
    "add_pool": lambda reads, maximum, geometry, epilogue: (
        struct.pack("<iB", reads, maximum) + _list("i", geometry) + _epilogue(epilogue)
    ),
    "add_elementwise": lambda reads, epilogue: struct.pack("<i", reads) + _epilogue(epilogue),
    "add_pad_channels": lambda reads, before, after, epilogue: (
        struct.pack("<3i", reads, before, after) + _epilogue(epilogue)
    ),
    "add_concatenate": lambda inputs, epilogue: _list("i", inputs) + _epilogue(epilogue),
    "add_resize": lambda reads, height, width, epilogue: struct.pack("<3i", reads, height, width) + _epilogue(epilogue),
    "add_flatten": lambda reads, epilogue: struct.pack("<i", reads) + _epilogue(epilogue),
    "add_input": lambda elements: struct.pack("<q", elements),
    "add_constant": lambda array: struct.pack("<i", array.size),
    "add_function": lambda name, parameters, inputs, result: (
        bytes([FUNCTIONS.index(name)]) + _list("f", parameters) + _views(inputs) + result.written
    ),
    "add_reduction": lambda name, view, axes, result: (
        bytes([REDUCTIONS.index(name)]) + view.written + _list("i", axes) + result.written
    ),
    "add_normalization": lambda view, axes, center, epsilon, result: (
        view.written + _list("i", axes) + struct.pack("<Bf", center, epsilon) + result.written
    ),
    "add_softmax": lambda view, axis, log, result: view.written + struct.pack("<iB", axis, log) + result.written,
    "add_product": lambda left, right, result: left.written + right.written + result.written,
    "add_sample": lambda view, axis, index, weight, maximum, result: (
        view.written
        + struct.pack("<i", axis)
        + _list("i", index)
        + struct.pack("<iB", weight.size, maximum)
        + result.written
    ),
    "add_copies": lambda sources, targets, fills, fill, result: (
        _views(sources) + _views(targets) + struct.pack("<Bf", fills, fill) + result.written
    ),
    "add_image": lambda value, first, *shape: struct.pack("<iq3i", value, first, *shape),
}
"""How the arguments of each method are written."""
