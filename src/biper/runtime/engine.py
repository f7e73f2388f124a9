"""The native engine behind a packed model: builds it from a program, runs it on arrays."""

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
    """Whether the native extension is there."""
    return _native is not None


class Engine:
    """A program, ready to run. Safe to call from many threads at once; releases the interpreter lock.

    Args:
        program: a validated program.
        instruction_set: ``"scalar"``, ``"avx2"``, ``"avx512"``, ``"neon"`` or ``"dotprod"``; None for
            ``$BIPER_ISA``, or else the best of this processor.
        threads: how many share the work of one call, the calling one included.

    Raises:
        ModelFormatError: the native side refuses the program, or the instruction set.
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
        """Which kernels run."""
        return str(self._engine.instruction_set)

    @property
    def threads(self) -> int:
        """How many threads share the work of one call."""
        return int(self._engine.threads)

    @property
    def arena_bytes(self) -> int:
        """Memory for the values of one image, in bytes."""
        return int(self._engine.arena_bytes)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalized images (N, C, H, W) float32 to results (N, C', H', W') float32."""
        results = np.empty((len(images), *self._output_shape), np.float32)
        self._engine.run(np.ascontiguousarray(images, np.float32), results, self._output)
        return results

    def profile(self, rounds: int = 100) -> list[float]:
        """Seconds that each operation takes on one image, the median of ``rounds`` runs."""
        return list(self._engine.profile(np.zeros(self._engine.shape(0), np.float32), rounds))

    def measure_peak(self) -> float:
        """Binary multiply-accumulates a second of one core, xor, popcount and add on registers alone."""
        return float(self._engine.measure_peak())

    def _add(self, op: Operation, values: dict[str, int]) -> tuple[int, int]:
        inputs = [values[name] for name in op.inputs]
        epilogue, get = _epilogue(op, values), op.attributes.get
        match op.operation:
            case "convolution" | "binary_convolution":
                geometry = [*get("stride", ()), *get("padding", ()), *get("dilation", ()), get("groups")]
                if op.operation == "binary_convolution":
                    return self._engine.add_binary_convolution(inputs[0], op.tensors["weight"], geometry, epilogue)
                if op.tensors["weight"].dtype == np.int8:
                    levels = get("input_factor"), get("input_zero")
                    return self._engine.add_int8_convolution(
                        inputs[0], op.tensors["weight"], geometry, *levels, epilogue
                    )
                weight = op.real_weight(self._engine.shape(inputs[0])[0])
                return self._engine.add_convolution(inputs[0], weight, geometry, epilogue)
            case "pool":
                geometry = [*get("kernel", ()), *get("stride", ()), *get("padding", ()), *get("size", ())]
                geometry.append(int(op.attributes["count_padding"]))
                return self._engine.add_pool(inputs[0], get("kind") == "max", geometry, epilogue)
            case "pad_channels":
                return self._engine.add_pad_channels(inputs[0], get("before"), get("after"), epilogue)
            case "concatenate":
                return self._engine.add_concatenate(inputs, epilogue)
            case "resize":
                return self._engine.add_resize(inputs[0], get("height"), get("width"), epilogue)
            case "flatten":
                return self._engine.add_flatten(inputs[0], epilogue)
        return self._engine.add_elementwise(inputs[0], epilogue)


def _epilogue(op: Operation, values: dict[str, int]) -> Any:
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
