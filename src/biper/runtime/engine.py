"""The native engine of a packed model: it is built from a program and runs on arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ModelFormatError
from biper.runtime.program import Operation, Program

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

    Raises:
        ModelFormatError: the native engine refuses the program, or the processor lacks the instruction set.
    """

    def __init__(self, program: Program, instruction_set: str | None = None, threads: int = 1) -> None:
        name = os.environ.get(ISA_VARIABLE, "") if instruction_set is None else instruction_set
        self._output_shape = program.output_shape
        try:
            self._engine = _native.Engine(*program.input_shape, name, threads)
            values = {"image": 0}
            for op in program.operations:
                real, bits = self._add(op, values)
                values |= {name: value for name, value in ((op.real, real), (op.bits, bits)) if name is not None}
            self._output = values[program.output]
            self._engine.finish(self._output)
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

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the program on normalized images (N, C, H, W) float32; returns results (N, C', H', W') float32."""
        results = np.empty((len(images), *self._output_shape), np.float32)
        self._engine.run(np.ascontiguousarray(images, np.float32), results, self._output)
        return results

    def profile(self, rounds: int = 100) -> list[float]:
        """The seconds that each operation takes on one image: the median of ``rounds`` runs."""
        return list(self._engine.profile(np.zeros(self._engine.shape(0), np.float32), rounds))

    def measure_peak(self) -> float:
        """The most binary multiply-accumulates per second of one core: xor, popcount and add on registers alone."""
        return float(self._engine.measure_peak())

    def _add(self, op: Operation, values: dict[str, int]) -> tuple[int, int]:
        """Add an operation; returns the ids of the real value and of the bits that it emits, -1 for none."""
        method, arguments = self._call_for(op, [values[name] for name in op.inputs])
        real, bits = getattr(self._engine, method)(*arguments, _epilogue(op, values))
        return int(real), int(bits)

    def _call_for(self, op: Operation, inputs: list[int]) -> tuple[str, list[Any]]:
        """The method of the native engine that adds an operation, and its arguments without the epilogue."""
        get = op.attributes.get
        match op.operation:
            case "convolution" | "binary_convolution":
                weight = op.tensors["weight"]
                geometry = [*get("stride", ()), *get("padding", ()), *get("dilation", ()), get("groups")]
                if op.operation == "binary_convolution":
                    return "add_binary_convolution", [inputs[0], weight, geometry]
                if weight.dtype == np.int8:
                    levels = get("input_factor"), get("input_zero")
                    return "add_int8_convolution", [inputs[0], weight, geometry, *levels]
                channels = self._engine.shape(inputs[0])[0]
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


def _epilogue(op: Operation, values: dict[str, int]) -> Any:
    """The epilogue of an operation as an object of the native extension; ``values`` are ids by name."""
    epilogue = _native.Epilogue()
    for name in ("multiplier", "offset", "slope", "threshold", "flip"):
        if name in op.tensors:
            setattr(epilogue, name, op.tensors[name].tolist())
    epilogue.activation = op.attributes.get("activation", "")
    if epilogue.activation == "clip":
        epilogue.low, epilogue.high = op.attributes["low"], op.attributes["high"]
    epilogue.residual = -1 if op.residual is None else values[op.residual]
    epilogue.real, epilogue.bits = op.real is not None, op.bits is not None
    return epilogue
