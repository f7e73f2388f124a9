"""A packed program as C99 for devices without an operating system: two files that need no library and no allocation.

Weights are constant tables, all values of an image lie in one static arena whose size is known here, and the kernels
(`c/operators.c`, and `c/float.c` or `c/fixed.c`) work on 32-bit words. Only those that a program calls are in its file.

Layouts: real values [row][column][channel]; bits [row][column][word], the first channel in the lowest bit, the bits
beyond the channels 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.runtime.program import Operation, Program, Shape, unpack_weight
from biper.targets.c.arena import Value, place
from biper.targets.c.fixed_point import PIXELS, Fixed, FixedProgram
from biper.targets.c.text import comment, initializer, number, rows, sections, string, words_of
from biper.targets.c.to_fixed_point import with_pixels, without_flips

Array = NDArray[Any]

MAX_EXTENT = (1 << 15) - 1
"""Of sizes in the tables of kernels."""

CODE_BYTES = {
    "read_pixels": 80,
    "binary_convolution": 800,
    "grouped_binary_convolution": 520,
    "convolution": 520,
    "signed_convolution": 520,
    "transfer": 240,
    "flatten": 120,
    "pool": 400,
    "levels_convolution": 760,
}
"""Machine code of each kernel for a Cortex-M3 at ``-Os``, about; a test compiles programs and compares."""

COMMON_CODE_BYTES, CALL_CODE_BYTES = 560, 10
"""What all kernels share, and each call."""

SOFT_FLOAT_BYTES = 1600
"""What the compiler's library adds to float layers where the processor has no floating point."""


@dataclass(frozen=True)
class CSource:
    """C source of a program, and what it takes.

    Attributes:
        header: the text of the ``.h`` file.
        source: the text of the ``.c`` file.
        table_bytes: of constant tables, exact.
        code_bytes: of machine code, an estimate for a Cortex-M3 at ``-Os``, which has no floating point of its own.
        arena_bytes: of static memory that is written, exact; the stack takes up to `STACK_BYTES` beside it.
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


_DESCRIPTION_BYTES = {
    "pixels": (4, 4),
    "binary_convolution": (40, 40),
    "grouped_binary_convolution": (52, 52),
    "convolution": (40, 40),
    "signed_convolution": (40, 40),
    "transfer": (20, 20),
    "flatten": (12, 12),
    "pool": (36, 44),
    "levels_convolution": (48, 48),
}
_EPILOGUE_BYTES = 44, 48
"""Of the constant that describes a call, and of the epilogue in it, where pointers have 32 bits: float, integers."""

STACK_BYTES = 512
"""Of the deepest call on 32-bit processors, at most; a test compiles and measures it."""


def c_source(program: Program, *, name: str = "model", fixed: FixedProgram | None = None) -> CSource:
    """Make C99 of a program.

    Args:
        program: a validated program; images are given as pixels, uint8 [row][column][channel].
        name: prefix of everything public: ``name_run``, ``NAME_CLASSES``; and of the header's file.
        fixed: what `biper.targets.c.fixed_point` made of it, to write that: no floating point anywhere.

    Raises:
        ExportError: the name is no C identifier, or the program is too large for 16-bit sizes or 32-bit sums.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ExportError(f"the name {name!r} cannot begin names of C: expected letters, digits and _")
    if fixed is not None:
        return _Writer(fixed.program, fixed, name).write(fixed.operations)
    prepared = with_pixels(without_flips(program))
    return _Writer(prepared, None, name).write([Fixed(op) for op in prepared.operations])


class _Writer:
    """Collects tables, calls and the kernels that they need."""

    def __init__(self, program: Program, fixed: FixedProgram | None, name: str) -> None:
        self.program, self.fixed, self.name = program, fixed, name
        self.shapes = program.shapes
        self.tables: list[str] = []
        self.calls: list[str] = []
        self.kernels: set[str] = set()
        self.table_bytes = 0
        self.window = 0  # words
        large = max(max(shape) for shape in self.shapes.values())
        if large > MAX_EXTENT:
            raise ExportError(
                f"a value has {large:,} channels, rows or columns; the C kernels take up to {MAX_EXTENT:,}"
            )

    def write(self, steps: Sequence[Fixed]) -> CSource:
        """The whole source."""
        self.places, sizes = _memory(self.program)
        for index, step in enumerate(steps):
            self.operation(index, step)
        integer = self.fixed is not None
        element = 2 if integer else 4
        sizes["window"] = self.window
        arena = {"real": sizes["real"] * element, "bits": sizes["bits"] * 4, "window": self.window * 4}
        arena["levels"] = sizes["levels"]
        kinds = {"real": "real_t", "bits": "uint32_t", "window": "uint32_t", "levels": "uint8_t"}
        members = " ".join(f"{kinds[kind]} {kind}[{sizes[kind]}];" for kind in kinds if sizes[kind])
        code = COMMON_CODE_BYTES + sum(map(CODE_BYTES.__getitem__, self.kernels)) + CALL_CODE_BYTES * len(self.calls)
        code += 0 if integer else SOFT_FLOAT_BYTES
        text = [
            _preamble(self.program, self.name, integer),
            f'#include "{self.name}.h"\n',
            *sections("float" if not integer else "fixed", ["types"]),
            f"static struct {{ {members} }} arena;\n",
            *self.kernel_text(integer),
            *self.tables,
            self.run(integer),
        ]
        total = sum(-(-size // 4) * 4 for size in arena.values())
        return CSource(self.header(integer), "\n".join(text), self.table_bytes, code, total)

    def kernel_text(self, integer: bool) -> Iterable[str]:
        own = "fixed" if integer else "float"
        kernels = self.kernels
        yield from sections("operators", ["activations"])
        bits = any(op.bits is not None for op in self.program.operations)
        binary = kernels & {"binary_convolution", "grouped_binary_convolution"}
        if bits:
            yield from sections("operators", ["put_bit"])
        (finish,) = sections(own, ["finish"])
        yield finish if bits else re.sub(r"\n    if \(e->bits\).*", "", finish)
        if binary:
            yield from sections("operators", ["finish_sum"])
        if kernels - {"read_pixels", "transfer", "flatten"}:
            yield from sections("operators", ["taps"])
        if binary:
            yield from sections("operators", ["count"])
        shared = [
            "read_pixels",
            "binary_convolution",
            "grouped_binary_convolution",
            "convolution",
            "signed_convolution",
        ]
        yield from sections("operators", [kernel for kernel in [*shared, "transfer", "flatten"] if kernel in kernels])
        yield from sections(own, [kernel for kernel in ("pool", "levels_convolution") if kernel in kernels])

    def header(self, integer: bool) -> str:
        """The ``.h`` file."""
        upper, (channels, height, width) = self.name.upper(), self.program.input_shape
        out = self.program.output_shape
        constants = {"HEIGHT": height, "WIDTH": width, "CHANNELS": channels}
        constants |= {"OUTPUTS": int(np.prod(out)), "OUT_HEIGHT": out[1], "OUT_WIDTH": out[2], "OUT_CHANNELS": out[0]}
        result, meaning = "float", "the outputs before softmax"
        if integer:
            assert self.fixed is not None
            constants["OUTPUT_EXPONENT"] = self.fixed.output_exponent
            result, meaning = "int16_t", f"the outputs before softmax times 2 to the power of {upper}_OUTPUT_EXPONENT"
        lines = [f"#define {upper}_{key} {value}" for key, value in constants.items()]
        labels = self.program.classes or (tuple(map(str, range(out[0]))) if out[1:] == (1, 1) else ())
        if labels:
            lines.append("/* Names of the outputs, to initialize an array of strings with. */")
            lines.append(f"#define {upper}_CLASSES {', '.join(map(string, labels))}")
        return (
            f"{_preamble(self.program, self.name, integer)}\n#ifndef {upper}_H\n#define {upper}_H\n\n"
            f'#include <stdint.h>\n\n#ifdef __cplusplus\nextern "C" {{\n#endif\n\n'
            + "\n".join(lines)
            + f"\n\n/* input: pixels from 0 to 255, [row][column][channel]. output: {meaning},\n"
            f"   [row][column][channel]. Uses one static arena: not for two calls at once. */\n"
            f"void {self.name}_run(const uint8_t input[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS],\n"
            f"    {result} output[{upper}_OUTPUTS]);\n\n#ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
        )

    def run(self, integer: bool) -> str:
        """The function."""
        upper, place_of = self.name.upper(), self.places[self.program.output]
        result = "int16_t" if integer else "float"
        lines = [
            f"void {self.name}_run(const uint8_t input[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS],",
            f"    {result} output[{upper}_OUTPUTS])",
            "{",
            "    int32_t i;",
            *self.calls,
            f"    for (i = 0; i < {upper}_OUTPUTS; ++i) output[i] = arena.real[{place_of} + i];",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def operation(self, index: int, step: Fixed) -> None:
        """Tables and the call, or calls, of one operation."""
        op = step.op
        reads = self.shapes[op.inputs[0]] if op.inputs else self.program.input_shape
        match op.operation:
            case _ if op.operation == PIXELS:
                self.call(index, step, "read_pixels", {"pixels": reads[1] * reads[2]})
            case "binary_convolution":
                self.binary(index, step, reads)
            case "convolution":
                self.convolution(index, step, reads)
            case "pool":
                self.pool(index, step, reads)
            case "flatten":
                whole = {"in": self.at(op.inputs[0]), "channels": reads[0], "pixels": reads[1] * reads[2]}
                self.call(index, step, "flatten", whole)
            case _:
                first = 0
                for part, name in enumerate(op.inputs):
                    channels, height, width = self.shapes[name]
                    fields: dict[str, Any] = {
                        "in": self.at(name),
                        "channels": channels,
                        "height": height,
                        "width": width,
                    }
                    before = op.attributes["before"] if op.operation == "pad_channels" else first
                    ends = (first, first + channels) if op.operation == "concatenate" else (0, op.shape[0])
                    fields |= {"out_height": op.shape[1], "out_width": op.shape[2], "first": before}
                    self.call(index, step, "transfer", fields | {"begin": ends[0], "end": ends[1]}, part)
                    first += channels

    def binary(self, index: int, step: Fixed, reads: Shape) -> None:
        op = step.op
        groups, inside = op.attributes["groups"], reads[0] // op.attributes["groups"]
        positive = unpack_weight(op.tensors["weight"], inside) > 0
        fields: dict[str, Any] = {"in": self.at(op.inputs[0])}
        geometry = {"geometry": self.geometry(op, reads, positive.shape[2:], inside)}
        if groups == 1:
            words = words_of(positive)
            fields |= {"weight": self.table(index, "weight", words), "words": words.shape[-1]}
            self.window = max(self.window, words[0].size)
            self.call(index, step, "binary_convolution", fields | geometry)
            return
        firsts = np.arange(groups) * inside // 32
        span = int(max((np.arange(1, groups + 1) * inside - 1) // 32 - firsts)) + 1
        in_words = -(-reads[0] // 32)
        firsts = np.minimum(firsts, in_words - span)
        shifted = np.zeros((len(positive), span * 32, *positive.shape[2:]), bool)
        mask = np.zeros((groups, span * 32, 1, 1), bool)
        for group in range(groups):
            start = group * inside - 32 * int(firsts[group])
            rows = slice(group * (len(positive) // groups), (group + 1) * (len(positive) // groups))
            shifted[rows, start : start + inside] = positive[rows]
            mask[group, start : start + inside] = True
        fields |= {
            "weight": self.table(index, "weight", words_of(shifted)),
            "mask": self.table(index, "mask", words_of(mask)),
            "first": self.table(index, "first", firsts.astype(np.int16)),
            "groups": groups,
            "words": span,
            "in_words": in_words,
        }
        self.call(index, step, "grouped_binary_convolution", fields | geometry)

    def convolution(self, index: int, step: Fixed, reads: Shape) -> None:
        op, weight = step.op, step.op.tensors["weight"]
        groups, inside = op.attributes["groups"], reads[0] // op.attributes["groups"]
        fields: dict[str, Any] = {"in": self.at(op.inputs[0])}
        kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
        geometry = {"geometry": self.geometry(op, reads, kernel, inside)}
        if weight.dtype == np.uint8:
            words = words_of(unpack_weight(weight, inside) > 0)
            fields |= {"weight": self.table(index, "weight", words), "groups": groups, "words": words.shape[-1]}
            self.call(index, step, "signed_convolution", fields | geometry)
        elif weight.dtype == np.int8 and self.fixed is None:
            fields |= {"levels": "arena.levels", "weight": self.table(index, "weight", weight.transpose(0, 2, 3, 1))}
            fields |= {
                "factor": number(np.float32(op.attributes["input_factor"])),
                "zero": op.attributes["input_zero"],
            }
            self.call(index, step, "levels_convolution", fields | geometry)
        else:
            table = op.real_weight(reads[0]) if step.weight is None else step.weight
            fields |= {"weight": self.table(index, "weight", table.transpose(0, 2, 3, 1)), "groups": groups}
            self.call(index, step, "convolution", fields | geometry)

    def pool(self, index: int, step: Fixed, reads: Shape) -> None:
        op = step.op
        fields: dict[str, Any] = {"in": self.at(op.inputs[0]), "maximum": int(op.attributes["kind"] == "max")}
        if self.fixed is None:
            fields["count_padding"] = int(op.attributes["count_padding"])
        elif step.factors is not None:
            for key, numbers in zip(("row_factor", "column_factor"), step.factors, strict=True):
                fields[key] = self.table(index, key, numbers)
        fields["geometry"] = self.geometry(op, reads, op.attributes["kernel"], reads[0])
        self.call(index, step, "pool", fields)

    def geometry(self, op: Operation, reads: Shape, kernel: Sequence[int], channels: int) -> str:
        """The geometry of a window operation; its channels in and out are those of one group."""
        a = op.attributes
        padding = a["padding"] if op.operation == "pool" else [a["padding"][0], a["padding"][2]]
        dilation = a.get("dilation", [1, 1])
        out = op.shape[0] // a.get("groups", 1)
        numbers = [channels, *reads[1:], out, *op.shape[1:], *kernel, *a["stride"], *padding, *dilation]
        return "{" + ", ".join(map(str, numbers)) + "}"

    def epilogue(self, index: int, step: Fixed, part: int) -> str:
        """The initializer of an operation's epilogue."""
        op = step.op
        fields: dict[str, Any] = {}
        if "threshold" in op.tensors:
            fields["threshold"] = self.table(index, "threshold", op.tensors["threshold"])
        elif self.fixed is not None:
            for key in ("multiplier", "offset", "slope"):
                if (numbers := getattr(step, key)) is not None:
                    fields[key] = self.table(index, key, np.broadcast_to(numbers, op.shape[0]))
            fields |= {"up": step.up[part], "residual_up": step.residual_up, "slope_up": step.slope_up}
            fields["down"] = step.down
        else:
            for key in ("multiplier", "offset", "slope"):
                if key in op.tensors:
                    fields[key] = self.table(index, key, op.tensors[key])
        activation = op.attributes.get("activation")
        if activation is not None:
            fields["activation"] = activation.upper()
        if activation == "clip":
            ends: tuple[Any, ...] = (step.low, step.high)
            if self.fixed is None:
                ends = tuple(number(np.float32(op.attributes[key])) for key in ("low", "high"))
            fields |= dict(zip(("low", "high"), ends, strict=True))
        for key, value in (("residual", op.residual), ("real", op.real), ("bits", op.bits)):
            if value is not None:
                fields[key] = self.at(value)
        fields["channels"] = op.shape[0]
        if op.bits is not None:
            fields["words"] = -(-op.shape[0] // 32)
        return initializer({key: value for key, value in fields.items() if value != 0})

    def call(self, index: int, step: Fixed, kernel: str, fields: Mapping[str, Any], part: int = 0) -> None:
        """A call of a kernel, and the constant that describes it."""
        variable = f"op{index}" if part == 0 else f"op{index}_{part}"
        kind = "pixels" if kernel == "read_pixels" else kernel
        epilogue = f"\n    .epilogue = {self.epilogue(index, step, part)}}}"
        body = initializer(fields).removesuffix("}") + "," + epilogue
        self.tables.append(f"/* {comment(step.op.source)} */\nstatic const {kind}_t {variable} = {body};\n")
        self.calls.append(f"    {kernel}(&{variable}{', input' if kernel == 'read_pixels' else ''});")
        self.kernels.add(kernel)
        integer = self.fixed is not None
        self.table_bytes += _DESCRIPTION_BYTES[kind][integer] + _EPILOGUE_BYTES[integer]

    def at(self, value: str) -> str:
        """The address of a value."""
        kind = "bits" if self.is_bits(value) else "real"
        return f"arena.{kind} + {self.places[value]}" if self.places[value] else f"arena.{kind}"

    def is_bits(self, value: str) -> bool:
        return any(op.bits == value for op in self.program.operations)

    def table(self, index: int, what: str, numbers: Array) -> str:
        """A constant array; returns its name."""
        kinds = {"f": "float", "u4": "uint32_t", "i4": "int32_t", "i2": "int16_t", "i1": "int8_t"}
        flat = np.ascontiguousarray(numbers).reshape(-1)
        code = flat.dtype.kind if flat.dtype.kind == "f" else f"{flat.dtype.kind}{flat.dtype.itemsize}"
        name = f"op{index}_{what}"
        declaration = f"static const {kinds[code]} {name}[{len(flat)}]"
        if not any(table.startswith(declaration) for table in self.tables):
            self.tables.append(f"{declaration} = {{\n{rows([number(value) for value in flat])}}};\n")
            self.table_bytes += -(-flat.nbytes // 4) * 4
        return name


def _preamble(program: Program, name: str, integer: bool) -> str:
    """What a file says of itself at its top."""
    channels, height, width = program.input_shape
    return (
        f"/* {name}: a 1-bit network in C99, written by biper. It needs no library, no allocator and no other file.\n"
        f"   Images of {height} x {width} x {channels} to {int(np.prod(program.output_shape))} outputs, "
        f"{'in integers alone' if integer else 'float32 between its binary layers'}. */"
    )


def _memory(program: Program) -> tuple[dict[str, int], dict[str, int]]:
    """The place of every value in the arena of its kind, in elements, and the size of each arena."""
    operations = program.operations
    last = {program.output: len(operations)}
    for index, op in enumerate(operations):
        for name in (*op.inputs, op.residual):
            if name is not None:
                last[name] = max(last.get(name, 0), index)
    values: dict[str, list[Value]] = {"real": [], "bits": []}
    for index, op in enumerate(operations):
        channels, height, width = op.shape
        if op.real is not None:
            alone = op.operation == "elementwise"
            instead = op.residual if op.residual not in op.inputs or alone else None
            if instead is None and alone:
                instead = op.inputs[0]
            size = channels * height * width
            values["real"].append(Value(op.real, size, index, last.get(op.real, index), instead))
        if op.bits is not None:
            size = -(-channels // 32) * height * width
            values["bits"].append(Value(op.bits, size, index, last.get(op.bits, index)))
    placed = {kind: place(entries) for kind, entries in values.items()}
    shapes = program.shapes
    levels = [int(np.prod(shapes[op.inputs[0]])) for op in operations if "input_factor" in op.attributes]
    sizes = {kind: total for kind, (_, total) in placed.items()} | {"levels": max(levels, default=0)}
    return placed["real"][0] | placed["bits"][0], sizes


def bytes_of(text: str) -> int:
    """A size such as ``128k``, ``1.5M`` or ``4096`` in bytes; k is 1024, as data sheets have it.

    Raises:
        ExportError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:i?[bB])?", text)
    if not match or float(match[1]) <= 0:
        raise ExportError(f"{text!r} is no size: expected bytes, such as 4096, 128k or 1M")
    return int(float(match[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[match[2].lower()])
