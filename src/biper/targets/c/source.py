"""A packed program as C99 for devices without an operating system: two files that need no library and no allocator.

Weights are constant tables. All values of an image lie in one static arena whose size is known here. The operators
(`c/operators.c`, and `c/float.c` or `c/fixed.c`) work on 32-bit words; a file has only those that its program calls.

Layouts: real values are [row][column][channel]. Bits are [row][column][word], the first channel in the lowest bit of
the first word; bits beyond the channels are 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from biper.errors import ExportError
from biper.runtime.program import Program
from biper.targets.c.arena import arena_of
from biper.targets.c.calls import OperatorCalls
from biper.targets.c.fixed_point import FixedOperation, FixedProgram
from biper.targets.c.preparation import preparation
from biper.targets.c.sizes import STACK_BYTES, code_bytes
from biper.targets.c.text import sections, string
from biper.targets.c.to_fixed_point import with_pixels, without_flips

MAX_EXTENT = (1 << 15) - 1
"""The largest number of channels, rows or columns: operators have them as 16-bit integers."""

SHARED_OPERATORS = (
    "read_pixels",
    "binary_convolution",
    "grouped_binary_convolution",
    "convolution",
    "signed_convolution",
    "transfer",
    "flatten",
)
"""The operators of `operators.c`, in the order in which they stand in a file."""

OWN_OPERATORS = "pool", "levels_convolution"
"""The operators that `float.c` and `fixed.c` write differently; the second is in the former alone."""


@dataclass(frozen=True)
class CSource:
    """C source of a program, and the memory that it takes.

    Attributes:
        header: the text of the ``.h`` file.
        source: the text of the ``.c`` file.
        table_bytes: size of the constant tables, exact.
        code_bytes: size of the machine code, an estimate for a Cortex-M3 at ``-Os``, which has no floating point.
        arena_bytes: size of the static memory that is written, exact; the stack takes up to `STACK_BYTES` beside it.
    """

    header: str
    source: str
    table_bytes: int
    code_bytes: int
    arena_bytes: int

    @property
    def needs(self) -> dict[str, int]:
        """Bytes of ``"flash"``, for tables and code, and of ``"RAM"``, for arena and stack."""
        return {"flash": self.table_bytes + self.code_bytes, "RAM": self.arena_bytes + STACK_BYTES}


def c_source(program: Program, *, name: str = "model", fixed: FixedProgram | None = None) -> CSource:
    """Write a program as C99.

    Args:
        program: a validated program; images are given as pixels, uint8 [row][column][channel].
        name: prefix of everything public (``name_run``, ``NAME_CLASSES``) and name of the header's file.
        fixed: the same program in integers, as `biper.targets.c.to_fixed_point` makes it, to write that instead: the
            source then has no floating point anywhere.

    Raises:
        ExportError: the name is no C identifier, C has no operator for an operation, or the program is too large for
            16-bit sizes or 32-bit sums.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ExportError(f"the name {name!r} cannot begin names of C: expected letters, digits and _")
    if fixed is not None:
        return _source(fixed.program, fixed.operations, name, fixed.output_exponent)
    prepared = with_pixels(without_flips(program))
    return _source(prepared, [FixedOperation(op) for op in prepared.operations], name, None)


def _source(program: Program, steps: Sequence[FixedOperation], name: str, exponent: int | None) -> CSource:
    """Both files; ``exponent`` is that of the outputs in integers, None for float32."""
    large = max(max(shape) for shape in program.shapes.values())
    if large > MAX_EXTENT:
        raise ExportError(f"a value has {large:,} channels, rows or columns; the C operators take up to {MAX_EXTENT:,}")
    integer = exponent is not None
    arena = arena_of(program)
    calls = OperatorCalls(program, arena, integer)
    for index, step in enumerate(steps):
        calls.add(index, step)
    has_bits = any(op.bits is not None for op in program.operations)
    text = [
        _top_comment(program, name, integer),
        f'#include "{name}.h"\n',
        *sections("fixed" if integer else "float", ["types"]),
        f"static struct {{ {arena.members()} }} arena;\n",
        *_operator_text(calls.operators, integer, has_bits),
        *calls.tables,
        _run_function(name, integer, calls.calls, arena.offsets[program.output]),
    ]
    return CSource(
        _header(program, name, exponent),
        "\n".join(text),
        calls.table_bytes,
        code_bytes(calls.operators, len(calls.calls), integer=integer),
        arena.nbytes(2 if integer else 4),
    )


def _operator_text(operators: set[str], integer: bool, has_bits: bool) -> Iterable[str]:
    """The definitions of the operators that are called, and of what they need."""
    own = "fixed" if integer else "float"
    binary = operators & {"binary_convolution", "grouped_binary_convolution"}
    yield from sections("operators", ["activations"])
    if has_bits:
        yield from sections("operators", ["put_bit"])
    (finish,) = sections(own, ["finish"])
    yield finish if has_bits else re.sub(r"\n    if \(e->bits\).*", "", finish)
    if binary:
        yield from sections("operators", ["finish_sum"])
    if operators - {"read_pixels", "transfer", "flatten"}:
        yield from sections("operators", ["taps"])
    if binary:
        yield from sections("operators", ["count"])
    yield from sections("operators", [operator for operator in SHARED_OPERATORS if operator in operators])
    yield from sections(own, [operator for operator in OWN_OPERATORS if operator in operators])


def _header(program: Program, name: str, exponent: int | None) -> str:
    """The text of the ``.h`` file."""
    upper, (channels, height, width) = name.upper(), program.input_shape
    out = program.output_shape
    constants = {"HEIGHT": height, "WIDTH": width, "CHANNELS": channels}
    constants |= {"OUTPUTS": math.prod(out), "OUT_HEIGHT": out[1], "OUT_WIDTH": out[2], "OUT_CHANNELS": out[0]}
    meaning = "the outputs before softmax" if out[0] > 1 else "the outputs before the sigmoid"
    if exponent is not None:
        constants["OUTPUT_EXPONENT"] = exponent
        meaning += f" times 2 to the power of {upper}_OUTPUT_EXPONENT"
    lines = [f"#define {upper}_{key} {value}" for key, value in constants.items()]
    labels = program.classes or (tuple(map(str, range(out[0]))) if out[1:] == (1, 1) else ())
    if labels:
        lines.append("/* Names of the outputs, to initialize an array of strings with. */")
        lines.append(f"#define {upper}_CLASSES {', '.join(map(string, labels))}")
    if program.input_shape[0] in (1, 3) and height > 1:
        lines += preparation(program, upper)
    return (
        f"{_top_comment(program, name, exponent is not None)}\n#ifndef {upper}_H\n#define {upper}_H\n\n"
        f'#include <stdint.h>\n\n#ifdef __cplusplus\nextern "C" {{\n#endif\n\n'
        + "\n".join(lines)
        + f"\n\n/* input: pixels from 0 to 255, [row][column][channel]. output: {meaning},\n"
        f"   [row][column][channel]. Uses one static arena: not for two calls at once. */\n"
        f"{_signature(name, exponent is not None)};\n\n#ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
    )


def _run_function(name: str, integer: bool, calls: Sequence[str], output: int) -> str:
    """The definition of ``name_run``; ``output`` is the offset of the program's output in the arena."""
    lines = [
        _signature(name, integer),
        "{",
        "    int32_t i;",
        *calls,
        f"    for (i = 0; i < {name.upper()}_OUTPUTS; ++i) output[i] = arena.real[{output} + i];",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _signature(name: str, integer: bool) -> str:
    upper = name.upper()
    return (
        f"void {name}_run(const uint8_t input[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS],\n"
        f"    {'int16_t' if integer else 'float'} output[{upper}_OUTPUTS])"
    )


def _top_comment(program: Program, name: str, integer: bool) -> str:
    """The comment at the top of both files."""
    channels, height, width = program.input_shape
    return (
        f"/* {name}: a 1-bit network in C99, written by biper. It needs no library, no allocator and no other file.\n"
        f"   Images of {height} x {width} x {channels} to {math.prod(program.output_shape)} outputs, "
        f"{'in integers alone' if integer else 'float32 between its binary layers'}. */"
    )
