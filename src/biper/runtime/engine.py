"""The native engine of a packed model: it is built from a program and runs on arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import BiperError, DataError, ModelFormatError
from biper.runtime.arrays import ArrayBuilder
from biper.runtime.budget import UNLIMITED
from biper.runtime.operations import OPERATIONS
from biper.runtime.program import Operation, Program, Shape
from biper.runtime.views import View, dense_strides, image_strides

try:
    from biper import _native as _extension
except ImportError:  # built without the extension: the runtime falls back to NumPy
    _extension = None
_native: Any = _extension

ISA_VARIABLE = "BIPER_ISA"
"""Environment variable that forces an instruction set (``scalar``, ``avx2``, ``avx512``, ``neon``, ``dotprod``)."""


def engine_is_built() -> bool:
    """Whether this installation has the native extension."""
    return _native is not None


class Engine:
    """A program that the native kernels can run. Many threads may call it at once; it releases the interpreter lock.

    Args:
        program: a validated program.
        instruction_set: ``"scalar"``, ``"avx2"``, ``"avx512"``, ``"neon"`` or ``"dotprod"``. With None the environment
            variable ``BIPER_ISA`` decides, or else the fastest set that this processor supports.
        threads: the number of threads that share the work of one call, including the calling thread.
        max_memory: the most bytes that weights, constants and the values of one image may take.

    Raises:
        BiperError: the native engine is not built.
        ModelFormatError: the native engine refuses the program, or the processor lacks the instruction set.
    """

    def __init__(
        self,
        program: Program,
        instruction_set: str | None = None,
        threads: int = 1,
        max_memory: int = UNLIMITED,
    ) -> None:
        if not engine_is_built():
            raise BiperError("this needs the native engine, which this installation was built without")
        name = os.environ.get(ISA_VARIABLE, "") if instruction_set is None else instruction_set
        self._outputs = program.outputs or {"": program.output}
        self._single = not program.outputs
        self._shapes = [program.shapes[value] for value in self._outputs.values()]
        self._inputs = {"image": program.input_shape} | dict(program.inputs)
        try:
            self._engine = _native.Engine(*program.input_shape, name, threads, max_memory)
            self._arrays = ArrayBuilder(self._engine, _native.View)
            self._bits: dict[str, int] = {}
            self._views: dict[str, View] = {}
            self._images: dict[str, int] = {}
            self._add_image("image", 0, program.input_shape)
            for other, shape in program.inputs.items():
                value = int(self._engine.add_input(math.prod(shape)))
                self._views[other] = View(value, shape, dense_strides(shape))
            wanted = _read_as_images(program)
            self._ends = [self._add(op, wanted) for op in program.operations]
            for value_name in self._outputs.values():
                self._engine.add_output(self._arrays.native(self._views[value_name]))
            self._engine.finish()
        except ValueError as error:
            raise ModelFormatError(f"the engine refuses the model: {error}") from error

    @property
    def instruction_set(self) -> str:
        """The instruction set of the kernels that run, such as ``"avx2"``."""
        return str(self._engine.instruction_set)

    @property
    def threads(self) -> int:
        """The number of threads that share the work of one call."""
        return int(self._engine.threads)

    @property
    def arena_bytes(self) -> int:
        """The memory that the values of one image take, in bytes."""
        return int(self._engine.arena_bytes)

    @property
    def native_operations(self) -> int:
        """How many operations run on an image. Views take none, and a value in another layout takes a copy."""
        return int(self._engine.operations)

    def __call__(
        self, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]] | None = None
    ) -> NDArray[np.float32] | dict[str, NDArray[np.float32]]:
        """Run the program.

        Args:
            images: (N, C, H, W) float32, normalized.
            others: the other inputs of the program by name, each (N, ...) float32.

        Returns:
            The result (N, ...) float32; or, of a program with several named results, these by name.

        Raises:
            ValueError: an input is missing, or has another shape.
            DataError: a convolution reads a value that is not finite and needs finite ones: one of int8 NaN; or one of
                bfloat16 NaN, infinity or a number that rounds to it; or one of real values that some instruction sets
                compute by a transform NaN or infinity.
        """
        results = self.run(images, others or {})
        return results[0] if self._single else dict(zip(self._outputs, results, strict=True))

    def run(self, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The same as a call, but the results are always a list, in the order of the program's outputs."""
        results = [np.empty((len(images), *shape), np.float32) for shape in self._shapes]
        arrays = []
        for name, shape in self._inputs.items():
            if name != "image" and name not in others:
                raise ValueError(f"the program has an input {name!r}, which is missing")
            array = np.ascontiguousarray(images if name == "image" else others[name], np.float32)
            if array.shape != (len(images), *shape):
                raise ValueError(f"the input {name!r} has the shape {array.shape}, expected {(len(images), *shape)}")
            arrays.append(array)
        try:
            self._engine.run(arrays, results)
        except ValueError as error:
            raise DataError(f"the model cannot compute these inputs: {error}") from error
        return results

    def profile(self, rounds: int = 100) -> list[float]:
        """The seconds that each operation takes on one image: the median of ``rounds`` runs. Views take none."""
        inputs = [np.zeros(shape, np.float32) for shape in self._inputs.values()]
        seconds = list(self._engine.profile(inputs, rounds))
        return [float(sum(seconds[begin:end])) for begin, end in pairwise([0, *self._ends])]

    def measure_peak(self) -> float:
        """The most binary multiply-accumulates per second of one core: xor, popcount and add on registers alone."""
        return float(self._engine.measure_peak())

    def _add(self, op: Operation, wanted: set[str]) -> int:
        """Add an operation; returns how many native operations there are then.

        ``wanted`` names the values that operations on images read.
        """
        if OPERATIONS[op.operation].on_images:
            if op.operation == "binary_convolution":
                inputs = [self._bits[name] for name in op.inputs]
            else:
                inputs = [self._image(name) for name in op.inputs]
            residual = -1 if op.residual is None else self._image(op.residual)
            method, arguments = self._call_for(op, inputs)
            real, bits = getattr(self._engine, method)(*arguments, _epilogue(op, residual))
            if op.real is not None:
                self._add_image(op.real, int(real), op.shape)
            if op.bits is not None:
                self._bits[op.bits] = int(bits)
        else:
            assert op.real is not None
            inputs_read = [self._views[name] for name in op.inputs]
            self._views[op.real] = self._arrays.add(op, inputs_read, for_images=op.real in wanted)
        return self.native_operations

    def _image(self, name: str) -> int:
        """The id under which operations on images read a value."""
        if name not in self._images:
            self._images[name] = self._arrays.image(self._views[name])
        return self._images[name]

    def _add_image(self, name: str, value: int, shape: Shape) -> None:
        """Note a value that is an image (C, H, W) of the native engine."""
        self._views[name] = View(value, shape, image_strides(shape))
        self._arrays.remember_image(self._views[name])

    def _call_for(self, op: Operation, inputs: list[int]) -> tuple[str, list[Any]]:
        """The method of the native engine that adds an operation, and its arguments without the epilogue."""
        get = op.attributes.get
        match op.operation:
            case "convolution" | "binary_convolution":
                weight = op.tensors["weight"]
                geometry = [*get("stride", ()), *get("padding", ()), *get("dilation", ()), get("groups")]
                if op.operation == "binary_convolution":
                    return "add_binary_convolution", [inputs[0], weight, geometry]
                if weight.dtype == np.uint16:
                    return "add_bfloat16_convolution", [inputs[0], weight, geometry]
                if weight.dtype == np.int8:
                    levels = get("input_factor"), get("input_zero")
                    return "add_int8_convolution", [inputs[0], weight, geometry, *levels]
                channels = self._views[op.inputs[0]].shape[0]
                return "add_convolution", [inputs[0], op.real_weight(channels), geometry]
            case "pool":
                geometry = [*get("kernel", ()), *get("stride", ()), *get("padding", ()), *get("size", ())]
                return "add_pool", [inputs[0], get("kind") == "max", [*geometry, int(op.attributes["count_padding"])]]
            case "pad_channels":
                return "add_pad_channels", [inputs[0], get("before"), get("after")]
            case "concatenate":
                return "add_concatenate", [inputs]
            case "resize":
                return "add_resize", [inputs[0], get("height"), get("width")]
            case "flatten":
                return "add_flatten", [inputs[0]]
        return "add_elementwise", [inputs[0]]


def _read_as_images(program: Program) -> set[str]:
    """The names of the values that operations on images read."""
    on_images = [op for op in program.operations if OPERATIONS[op.operation].on_images]
    return {name for op in on_images for name in (*op.inputs, op.residual) if name is not None}


def _epilogue(op: Operation, residual: int) -> Any:
    """The epilogue of an operation as an object of the native extension; ``residual`` is the id of a value, or -1."""
    epilogue = _native.Epilogue()
    for name in ("multiplier", "offset", "slope", "threshold", "flip"):
        if name in op.tensors:
            setattr(epilogue, name, np.ascontiguousarray(op.tensors[name]))
    epilogue.activation = op.attributes.get("activation", "")
    if epilogue.activation == "clip":
        epilogue.low, epilogue.high = op.attributes["low"], op.attributes["high"]
    epilogue.residual = residual
    epilogue.real, epilogue.bits = op.real is not None, op.bits is not None
    return epilogue
