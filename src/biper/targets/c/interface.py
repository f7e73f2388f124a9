"""What a program offers to C: the header, the signature of its function, and the body of that function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from biper.runtime.program import Program, Shape
from biper.targets.c.fixed_point import IMAGE, FixedProgram
from biper.targets.c.layout import is_image
from biper.targets.c.preparation import normalization, preparation
from biper.targets.c.text import comment, string


class Interface:
    """The names of a program's inputs and results in C.

    Args:
        program: a validated program.
        name: prefix of everything public.
        fixed: the program in integers, None for float32.
    """

    def __init__(self, program: Program, name: str, fixed: FixedProgram | None) -> None:
        self.program, self.name = program, name
        self.exponents = None if fixed is None else fixed.exponents
        self.number = "float" if fixed is None else f"int{fixed.value_bits}_t"
        self.upper = name.upper()
        self.several = len(program.results) > 1
        self.outputs = (
            _identifiers("output", program.results) if self.several else dict.fromkeys(program.results, "output")
        )
        self.numbers = IMAGE in program.inputs
        others = [name for name in program.inputs if name != IMAGE]
        self.inputs = dict.fromkeys([IMAGE] * self.numbers, "input") | _identifiers("input", others)

    def header(self, top_comment: str) -> str:
        """The text of the ``.h`` file."""
        program, upper = self.program, self.upper
        channels, height, width = program.input_shape
        lines = [
            f"#define {upper}_HEIGHT {height}",
            f"#define {upper}_WIDTH {width}",
            f"#define {upper}_CHANNELS {channels}",
        ]
        for name, variable in self.inputs.items():
            if name != IMAGE:
                lines += self._constants(variable.upper(), program.inputs[name], f"the input {name}")
        shapes = program.shapes
        for name, value in program.results.items():
            stem = self.outputs[name].upper() if self.several else "OUTPUTS"
            lines += self._constants(stem, shapes[value], f"the output {name}" if self.several else "")
            if self.exponents is not None:
                lines.append(f"#define {upper}_{stem if self.several else 'OUTPUT'}_EXPONENT {self.exponents[value]}")
        out = shapes[program.output]
        numbered = tuple(map(str, range(math.prod(out)))) if max(out, default=1) == math.prod(out) else ()
        if labels := program.classes or numbered:
            lines.append("/* Names of the outputs, to initialize an array of strings with. */")
            lines.append(f"#define {upper}_CLASSES {', '.join(map(string, labels))}")
        if self.numbers:
            lines += normalization(program, upper)
            if self.exponents is not None:
                lines.append(f"#define {upper}_INPUT_EXPONENT {self.exponents[IMAGE]}")
        elif channels in (1, 3) and height > 1:
            lines += preparation(program, upper)
        given = "pixels from 0 to 255, [row][column][channel]"
        if self.numbers:
            order = ("[sample][channel]" if width > 1 else "in order") if height == 1 else "[row][column][channel]"
            scale = "" if self.exponents is None else f", times 2 to the power of {upper}_INPUT_EXPONENT and rounded"
            given = f"normalized numbers, (number - mean) / std{scale}, {order}"
        unit = "" if self.exponents is None else " times 2 to\n   the power of its _EXPONENT"
        return (
            f"{top_comment}\n#ifndef {upper}_H\n#define {upper}_H\n\n"
            f'#include <stdint.h>\n\n#ifdef __cplusplus\nextern "C" {{\n#endif\n\n'
            + "\n".join(lines)
            + f"\n\n/* input: {given}.\n   Outputs: what the network computes{unit},\n"
            f"   images [row][column][channel]; for classes, a softmax makes probabilities of them,\n"
            f"   for a single output a sigmoid.\n"
            f"   Uses one static arena: not for two calls at once. */\n"
            f"{self.signature()};\n\n#ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
        )

    def _constants(self, stem: str, shape: Shape, what: str) -> list[str]:
        """The number of elements of a value, and its rows, columns and channels or, for other arrays, its shape."""
        lines = [f"#define {self.upper}_{stem} {math.prod(shape)}"]
        if is_image(shape):
            part = "OUT" if stem == "OUTPUTS" else stem
            sizes = zip(("HEIGHT", "WIDTH", "CHANNELS"), (shape[-2], shape[-1], shape[-3]), strict=True)
            lines += [f"#define {self.upper}_{part}_{key} {size}" for key, size in sizes]
            order = "[row][column][channel]"
        else:
            order = f"row-major, {' x '.join(map(str, shape)) or 'one number'}"
        return [f"/* {comment(what)}: {order} */", *lines] if what else lines

    def signature(self) -> str:
        """The function without its body."""
        return f"void {self.name}_run({(',' + chr(10) + '    ').join(self.arguments())})"

    def arguments(self) -> list[str]:
        """The arguments of the function: inputs, then results, each an array of known size."""
        upper, number = self.upper, self.number
        kind = number if self.numbers else "uint8_t"
        arguments = [f"const {kind} input[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS]"]
        others = [variable for name, variable in self.inputs.items() if name != IMAGE]
        arguments += [f"const {number} {variable}[{upper}_{variable.upper()}]" for variable in others]
        sizes = {variable: variable.upper() if self.several else "OUTPUTS" for variable in self.outputs.values()}
        arguments += [f"{number} {variable}[{upper}_{size}]" for variable, size in sizes.items()]
        return arguments

    def call(self) -> str:
        """A statement that calls the function with arrays that have the names of its arguments."""
        variables = [*(self.inputs if self.numbers else {"": "input", **self.inputs}).values(), *self.outputs.values()]
        return f"{self.name}_run({', '.join(variables)});"

    def definition(self, calls: Sequence[str], address: Callable[[str], str]) -> str:
        """The function: it copies numbers and further inputs to the arena, calls operators, and copies the results.

        Args:
            calls: the statements that compute.
            address: the C expression of the address of a value.
        """
        shapes = self.program.shapes
        lines = [self.signature(), "{", "    int32_t i;"]
        for name, variable in self.inputs.items():
            lines.append(_copy(_element(address(name)), f"{variable}[i]", math.prod(shapes[name])))
        lines += ["    FENCE();"] * bool(self.inputs)
        lines += [f"{call}\n    FENCE();" if call.endswith(";") else call for call in calls]
        for name, value in self.program.results.items():
            lines.append(_copy(f"{self.outputs[name]}[i]", _element(address(value)), math.prod(shapes[value])))
        return "\n".join([*lines, "}"]) + "\n"


def _copy(to: str, source: str, count: int) -> str:
    return f"    for (i = 0; i < {count}; ++i) {to} = {source};"


def _element(address: str) -> str:
    """Element ``i`` behind an address of the form ``array`` or ``array + offset``."""
    array, _, offset = address.partition(" + ")
    return f"{array}[{offset} + i]" if offset else f"{array}[i]"


def _identifiers(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """A C identifier for each name, all different, also in capitals."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"\W", "_", f"{prefix}_{name}", flags=re.ASCII).lower()
        free, number = stem, 2
        while free in taken:
            free, number = f"{stem}_{number}", number + 1
        taken.add(free)
        found[name] = free
    return found
