"""A packed program as C99 for devices without an operating system: two files that need no library and no allocator.

Weights are constant tables. All values of an image lie in one static arena whose size is known here. The operators
(`c/operators.c`, and `c/float.c` or `c/fixed.c`) work on 32-bit words; a file has only those that its program calls.

Layouts: real values are [row][column][channel]. Bits are [row][column][word], the first channel in the lowest bit of
the first word; bits beyond the channels are 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biper.errors import ExportError
from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Program
from biper.targets.c import OPERATIONS
from biper.targets.c.arena import arena_of
from biper.targets.c.array_functions import library_functions
from biper.targets.c.calls import OperatorCalls
from biper.targets.c.fixed_point import FROM_PIXELS, PIXEL_CONVOLUTION, FixedOperation, FixedProgram
from biper.targets.c.instructions import Call
from biper.targets.c.interface import Interface
from biper.targets.c.kernels import BinaryLayer, binary_layers
from biper.targets.c.sizes import STACK_BYTES, code_bytes
from biper.targets.c.streams import BANDS, stream_of
from biper.targets.c.text import sections
from biper.targets.c.to_fixed_point import with_input, without_flips
from biper.targets.c.uses import slow_signs, uses_text
from biper.targets.operations import require_operations, require_usable_numbers
from biper.targets.real_layers import with_rounded_inputs

MAX_EXTENT = (1 << 15) - 1
"""The largest number of channels, rows or columns: operators have them as 16-bit integers."""

SHARED_OPERATORS = (
    "read_pixels",
    "convolution",
    "signed_convolution",
    "transfer",
    "flatten",
)
"""The operators of `operators.c`, in the order in which they stand in a file."""

BINARY_OPERATORS = "binary_convolution", "lookup_convolution", "grouped_binary_convolution"
"""The operators of `binary.c` and `lookup.c`."""

OWN_OPERATORS = "pool", "levels_convolution", "pixel_convolution"
"""The operators that `float.c` and `fixed.c` write differently; the former has the second, the latter the third."""

ARRAY_OPERATORS = (
    "fill",
    "copy",
    "unary",
    "binary",
    "choose",
    "reduce",
    "softmax",
    "normalize",
    "matmul",
    "sample",
)
"""The operators of `arrays.c` and, but for the first, of `fixed_arrays.c`, which have no epilogue."""


@dataclass(frozen=True)
class CSource:
    """C source of a program, and the memory that it takes.

    Attributes:
        header: the text of the ``.h`` file.
        source: the text of the ``.c`` file.
        table_bytes: size of the constant tables, exact.
        code_bytes: size of the machine code, an estimate for a Cortex-M3 at ``-Os``, which has no floating point.
        arena_bytes: size of the static memory that is written, exact; the stack takes up to `STACK_BYTES` beside it.
        memory_map: what lies where in it, and while which operations run.
        buffers: declarations of arrays for the inputs and the results, without a storage class.
        call: the statement that computes the results in these arrays.
        first_output: the name of the array of the first result.
        made: what the calls of operators do, in their order; nothing in float32.
    """

    header: str
    source: str
    table_bytes: int
    code_bytes: int
    arena_bytes: int
    memory_map: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    call: str = ""
    first_output: str = ""
    made: tuple[Call, ...] = ()

    @property
    def needs(self) -> dict[str, int]:
        """Bytes of ``"flash"``, for tables and code, and of ``"RAM"``, for arena and stack."""
        return {"flash": self.table_bytes + self.code_bytes, "RAM": self.arena_bytes + STACK_BYTES}

    @property
    def instructions(self) -> float | None:
        """Of a Cortex-M3 for one input, by `biper.targets.c.instructions`; None in float32."""
        return sum(call.instructions for call in self.made) if self.made else None


def c_source(
    program: Program,
    *,
    name: str = "model",
    fixed: FixedProgram | None = None,
    numbers: bool | None = None,
    small: bool = False,
) -> CSource:
    """Write a program as C99.

    Args:
        program: a validated program.
        name: prefix of everything public (``name_run``, ``NAME_CLASSES``) and name of the header's file.
        fixed: the same program in integers, as `biper.targets.c.to_fixed_point` makes it, to write that instead: the
            source then has no floating point anywhere.
        numbers: True if the function takes normalized numbers, ``float``; False if it takes pixels, ``uint8_t``, and
            normalizes them; both [row][column][channel]. None for pixels of pictures, and numbers of signals and of
            vectors. ``fixed`` has decided for itself; its numbers are ``int16_t``, or ``int32_t`` where its values have
            32 bits.
        small: whether binary convolutions do without tables, which are faster and take more memory.

    Raises:
        ExportError: the name is no C identifier, C has no operator for an operation, a number of the program is NaN or
            infinite, or the program is too large for 16-bit sizes or 32-bit sums.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ExportError(f"the name {name!r} cannot begin names of C: expected letters, digits and _")
    require_usable_numbers(program, infinity=fixed is None)
    if fixed is not None:
        return _source(fixed.program, fixed.operations, name, fixed, small)
    require_operations(program, "C", OPERATIONS)
    prepared = with_input(without_flips(with_rounded_inputs(program)), numbers)
    return _source(prepared, [FixedOperation(op) for op in prepared.operations], name, None, small)


def _source(
    program: Program, steps: Sequence[FixedOperation], name: str, fixed: FixedProgram | None, small: bool
) -> CSource:
    """Both files; ``fixed`` is the program in integers, None for float32."""
    shapes = program.shapes
    on_images = [op for op in program.operations if op.operation in FROM_PIXELS or TABLE[op.operation].on_images]
    sizes = [shapes[value] for op in on_images for value in (*op.inputs, op.real, op.bits) if value is not None]
    large = max(max(shape) for shape in sizes)
    if large > MAX_EXTENT:
        raise ExportError(f"a value has {large:,} channels, rows or columns; the C operators take up to {MAX_EXTENT:,}")
    integer, real_bytes = fixed is not None, 4 if fixed is None else fixed.value_bits // 8
    interface = Interface(program, name, fixed)
    layers = binary_layers(program, tables=not small)
    scratch = scratch_of(program, layers)
    arena, stream = arena_of(program, real_bytes, scratch), None
    for band in BANDS:
        other = stream_of(program, layers, band)
        if other is not None and (by_rows := arena_of(program, real_bytes, scratch, other)).size < arena.size:
            arena, stream = by_rows, other
    calls = OperatorCalls(program, arena, integer, layers, stream)
    for index, step in enumerate(steps):
        calls.add(index, step)
    array_text = list(_array_text(calls))
    library = library_functions([*array_text, *calls.functions.values()])
    top_comment = _top_comment(program, name, integer, library)
    text = [
        top_comment,
        *(["#include <math.h>\n"] if library or any("INFINITY" in table for table in calls.tables) else []),
        f'#include "{name}.h"\n',
        *_types(fixed, steps),
        *sections("operators", ["fence"]),
        f"static union {{ {arena.members()} }} arena;\n",
        *_operator_text(calls.operators - set(ARRAY_OPERATORS), calls.made, integer),
        *array_text,
        *calls.tables,
        *(sections("operators", ["row_inside"]) if stream is not None else []),
        interface.definition(calls.calls, calls.address),
    ]
    return CSource(
        interface.header(top_comment),
        "\n".join(text),
        calls.table_bytes,
        code_bytes(
            calls.operators,
            sum(call.endswith(";") for call in calls.calls),
            integer=integer,
            functions=len(calls.functions),
            library=library,
            copies=len(program.results) + len(program.inputs) - 1,
            streamed=len(stream.bands) if stream is not None else 0,
            slow=integer and slow_signs(calls.made),
        ),
        max(arena.size, 4),
        arena.describe([op.source for op in program.operations]),
        tuple(argument.removeprefix("const ") for argument in interface.arguments()),
        interface.call(),
        next(iter(interface.outputs.values())),
        tuple(calls.made) if calls.integer else (),
    )


def _types(fixed: FixedProgram | None, steps: Sequence[FixedOperation]) -> Iterable[str]:
    """The types of values, and of the weights of real convolutions, which are int16 where they were made so."""
    (types,) = sections("float" if fixed is None else "fixed", ["types"])
    if any(step.weight is not None and step.weight.dtype == np.int16 for step in steps):
        types = types.replace("typedef int8_t weight_t", "typedef int16_t weight_t")
    if fixed is not None and fixed.value_bits == 32:
        yield "#define MODEL_WIDE\n"
        types = types.replace("typedef int16_t real_t", "typedef int32_t real_t")
    yield types


def scratch_of(program: Program, layers: Mapping[int, BinaryLayer]) -> dict[int, int]:
    """The bytes that operations need while they run, by their numbers."""
    scratch = {index: layer.scratch_bytes for index, layer in layers.items()}
    for index, op in enumerate(program.operations):
        if "input_factor" in op.attributes and op.inputs:
            scratch[index] = math.prod(program.shapes[op.inputs[0]])
        if op.operation == PIXEL_CONVOLUTION:
            scratch[index] = math.prod(op.tensors["weight"].shape[1:])
    return scratch


def _operator_text(operators: set[str], calls: Sequence[Call], integer: bool) -> Iterable[str]:
    """The definitions of the operators that are called, and of what they need."""
    own = "fixed" if integer else "float"
    yield from sections("operators", ["activations"])
    yield uses_text(calls)
    yield from sections("bits", ["trace", "put_bit"])
    yield from sections(own, ["finish"])
    if operators & set(BINARY_OPERATORS):
        yield from sections("bits", ["finish_sum"])
    if integer and operators & {"pixel_convolution", "pool", "binary_convolution", "lookup_convolution"}:
        yield from sections(own, ["sixteen", "vectors"])
    if integer and operators & {"pixel_convolution", "pool"}:
        yield from sections(own, ["finish_values"])
    if operators & {"binary_convolution", "lookup_convolution"}:
        yield from sections("bits", ["finish_each"])
        yield from sections(own, ["finish_counts"])
    if operators - {"read_pixels", "transfer", "flatten"}:
        yield from sections("operators", ["taps"])
    if operators - {"read_pixels", "transfer", "flatten", "pixel_convolution"}:
        yield from sections("operators", ["ring_row"])
    if operators & set(BINARY_OPERATORS):
        yield from _binary_text(operators)
    if "convolution" in operators:
        yield from sections(own, ["products"])
    yield from sections("operators", [operator for operator in SHARED_OPERATORS if operator in operators])
    yield from sections(own, [operator for operator in OWN_OPERATORS if operator in operators])


def _binary_text(operators: set[str]) -> Iterable[str]:
    """The definitions of the binary convolutions that are called; where bits are counted, no table is looked up."""
    yield from sections("bits", ["popcount"])
    counting = [*sections("bits", ["count_four"]), *sections("binary", ["binary_convolution"])]
    if "grouped_binary_convolution" in operators:
        yield from sections("bits", ["count"])
    elif "binary_convolution" in operators:
        yield from ("#ifndef MODEL_POPCOUNT\n", *sections("bits", ["count"]), "#endif\n")
    if operators & {"binary_convolution", "lookup_convolution"}:
        yield from sections("binary", ["binary_convolution_type"])
    if "binary_convolution" in operators:
        yield from (*sections("bits", ["count_masked"]), *counting)
    if "lookup_convolution" in operators:
        yield "#ifdef MODEL_POPCOUNT\n"
        yield from () if "binary_convolution" in operators else counting
        yield "#define lookup_convolution binary_convolution\n#else\n"
        yield from sections("lookup", ["lookup", "lookup_convolution"])
        yield "#endif\n"
    if "grouped_binary_convolution" in operators:
        yield from sections("binary", ["grouped_binary_convolution"])


def _array_text(calls: OperatorCalls) -> Iterable[str]:
    """The definitions of the operators on arrays that are called, and of the functions that these call."""
    wanted = [operator for operator in ARRAY_OPERATORS if operator in calls.operators]
    if calls.operators & set(ARRAY_OPERATORS) - {"fill"}:
        yield from sections("arrays", ["nest"])
    if calls.integer and calls.operators & {"unary", "softmax"}:
        yield from sections("fixed_arrays", ["lookup_table"])
    if calls.integer and calls.operators & {"matmul", "normalize"}:
        yield from sections("fixed_arrays", ["wide"])
    for operator in wanted:
        own = calls.integer and operator != "fill"
        yield from sections("fixed_arrays" if own else "arrays", [operator])
    yield from calls.functions.values()


def _top_comment(program: Program, name: str, integer: bool, library: Collection[str]) -> str:
    """The comment at the top of both files."""
    channels, height, width = program.input_shape
    needs = f"{', '.join(sorted(library))} of math.h," if library else "no library,"
    outputs = sum(math.prod(program.shapes[value]) for value in program.results.values())
    what = f"Images of {height} x {width} x {channels}"
    if height == 1:
        what = f"Signals of {width} samples of {channels} channels" if width > 1 else f"Vectors of {channels} numbers"
    return (
        f"/* {name}: a 1-bit network in C99, written by biper. It needs {needs} no allocator and no other file.\n"
        f"   {what} to {outputs} outputs, "
        f"{'in integers alone' if integer else 'float32 between its binary layers'}. */"
    )
