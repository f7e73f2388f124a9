"""The calls of C operators that compute a program, and the constant tables that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.program import Operation, Program, Shape, unpack_weight
from biper.targets.c.arena import Arena
from biper.targets.c.array_calls import ArrayCalls
from biper.targets.c.array_functions import definition
from biper.targets.c.fixed_array_calls import FixedArrayCalls
from biper.targets.c.fixed_point import INT16, PIXEL_CONVOLUTION, PIXELS, FixedOperation
from biper.targets.c.instructions import Call
from biper.targets.c.kernels import BinaryLayer
from biper.targets.c.layout import places_of
from biper.targets.c.sizes import description_bytes
from biper.targets.c.streams import Stream
from biper.targets.c.text import comment, fours_of, initializer, lanes_of, number, pairs_of, rows, units_of, words_of

Array = NDArray[Any]


BY_ROWS = frozenset({"binary_convolution", "lookup_convolution", "pixel_convolution", "pool"})
"""The operators that compute some rows of their result."""


class OperatorCalls:
    """Collects the tables, the calls and the names of the operators that a program needs.

    Args:
        program: a program whose first operation reads the pixels, or whose input is numbers.
        arena: where its values lie.
        integer: whether the operators compute in integers alone.
        layers: the binary convolutions, by the numbers of the operations.
        stream: the first operations, if they run row by row.

    Attributes:
        tables: definitions of constants, in the order in which they are to stand.
        calls: statements of the function that runs the program.
        made: what the calls do, in their order.
        operators: names of the operators that are called.
        functions: definitions of the functions that operators on arrays call, by name.
        table_bytes: the size of all constants.
    """

    def __init__(
        self,
        program: Program,
        arena: Arena,
        integer: bool,
        layers: Mapping[int, BinaryLayer],
        stream: Stream | None = None,
    ) -> None:
        self.program, self.arena, self.integer, self.layers, self.stream = program, arena, integer, layers, stream
        self.shapes = program.shapes
        self.bits = {op.bits for op in program.operations}
        self.tables: list[str] = []
        self.calls: list[str] = []
        self.made: list[Call] = []
        self.operators: set[str] = set()
        self.functions: dict[str, str] = {}
        self.table_bytes = 0
        self.constants: dict[str, str] = {}
        self.arrays = FixedArrayCalls(self) if integer else ArrayCalls(self)

    def add(self, index: int, step: FixedOperation) -> None:
        """Write the tables and the call, or calls, of one operation, which is one of `OPERATIONS`."""
        op = step.op
        reads = self.shapes[op.inputs[0]] if op.inputs else self.program.input_shape
        match op.operation:
            case _ if op.operation == PIXELS:
                self.call(index, step, "read_pixels", {"pixels": reads[1] * reads[2]})
            case _ if op.operation == PIXEL_CONVOLUTION:
                self.pixel_convolution(index, step, reads)
            case "binary_convolution":
                self.binary_convolution(index, step, reads)
            case "convolution":
                self.convolution(index, step, reads)
            case "pool":
                self.pool(index, step, reads)
            case "flatten":
                whole = {"in": self.address(op.inputs[0]), "channels": reads[0], "pixels": reads[1] * reads[2]}
                self.call(index, step, "flatten", whole)
            case "elementwise" | "pad_channels" | "concatenate" | "resize":
                self.transfer(index, step)
            case "constant":
                self.constant(index, op)
            case _:
                self.arrays.add(index, step)

    def binary_convolution(self, index: int, step: FixedOperation, reads: Shape) -> None:
        """Weights in words; in groups, a unit may belong to two of them, and a mask keeps the bits of one."""
        op = step.op
        groups, inside = op.attributes["groups"], reads[0] // op.attributes["groups"]
        positive = unpack_weight(op.tensors["weight"], inside) > 0
        fields: dict[str, Any] = {"in": self.address(op.inputs[0])}
        geometry = {"geometry": self.geometry(op, reads, positive.shape[2:], inside)}
        layer = self.layers.get(index)
        if layer is not None:
            units = units_of(positive)
            fields["scratch"] = self.arena.address(f"scratch {index}", "words")
            fields |= {"units": units.shape[-1], "rows": layer.kernel_rows // layer.passes}
            if layer.by_tables:
                fields["weight"] = self.either_table(index, "weight", fours_of(units), lanes_of(units))
                self.call(index, step, "lookup_convolution", fields | geometry)
            else:
                fields["weight"] = self.either_table(index, "weight", fours_of(units), pairs_of(units))
                self.call(index, step, "binary_convolution", fields | geometry)
            return
        firsts = np.arange(groups) * inside // 16
        span = int(max((np.arange(1, groups + 1) * inside - 1) // 16 - firsts)) + 1
        in_units = -(-reads[0] // 16)
        firsts = np.minimum(firsts, in_units - span)
        shifted = np.zeros((len(positive), span * 16, *positive.shape[2:]), bool)
        mask = np.zeros((groups, span * 16, 1, 1), bool)
        for group in range(groups):
            start = group * inside - 16 * int(firsts[group])
            own = slice(group * (len(positive) // groups), (group + 1) * (len(positive) // groups))
            shifted[own, start : start + inside] = positive[own]
            mask[group, start : start + inside] = True
        fields |= {
            "weight": self.table(index, "weight", units_of(shifted)),
            "mask": self.table(index, "mask", units_of(mask)),
            "first": self.table(index, "first", firsts.astype(np.int16)),
            "groups": groups,
            "units": span,
            "in_units": in_units,
        }
        self.call(index, step, "grouped_binary_convolution", fields | geometry)

    def convolution(self, index: int, step: FixedOperation, reads: Shape) -> None:
        """One of three operators, by the type of the weights: bits, int8 with rounded inputs, or real."""
        op, weight = step.op, step.op.tensors["weight"]
        groups, inside = op.attributes["groups"], reads[0] // op.attributes["groups"]
        fields: dict[str, Any] = {"in": self.address(op.inputs[0])}
        kernel = weight.shape[1:3] if weight.dtype == np.uint8 else weight.shape[2:]
        geometry = {"geometry": self.geometry(op, reads, kernel, inside)}
        if weight.dtype == np.uint8:
            words = words_of(unpack_weight(weight, inside) > 0)
            fields |= {"weight": self.table(index, "weight", words), "groups": groups, "words": words.shape[-1]}
            self.call(index, step, "signed_convolution", fields | geometry)
        elif weight.dtype == np.int8 and not self.integer:
            fields["levels"] = self.arena.address(f"scratch {index}", "levels")
            fields |= {"weight": self.table(index, "weight", weight.transpose(0, 2, 3, 1))}
            fields |= {
                "factor": number(np.float32(op.attributes["input_factor"])),
                "zero": op.attributes["input_zero"],
            }
            self.call(index, step, "levels_convolution", fields | geometry)
        else:
            table = op.real_weight(reads[0]) if step.weight is None else step.weight
            fields |= {"weight": self.table(index, "weight", table.transpose(0, 2, 3, 1)), "groups": groups}
            self.call(index, step, "convolution", fields | geometry)

    def pixel_convolution(self, index: int, step: FixedOperation, reads: Shape) -> None:
        """Weights [4 output channels][ky][kx][channel][4]; what all taps add is in the offset, and a table has each."""
        assert step.weight is not None
        assert step.tap_offset is not None
        weight = np.pad(step.weight, ((0, -len(step.weight) % 4), (0, 0), (0, 0), (0, 0)))
        kernel = weight.shape[2:]
        ordered = weight.reshape(-1, 4, reads[0], *kernel).transpose(0, 3, 4, 2, 1)
        offset = step.tap_offset.sum((1, 2)) + (0 if step.offset is None else step.offset)
        fields = {"weight": self.table(index, "weight", ordered)}
        fields["offset"] = self.table(index, "offset", offset.astype(np.int32))
        if any(step.op.attributes["padding"]):
            fields["missing"] = self.table(index, "missing", -step.tap_offset.transpose(1, 2, 0))
        fields["window"] = self.arena.address(f"scratch {index}", "levels")
        fields["geometry"] = self.geometry(step.op, reads, kernel, reads[0])
        self.call(index, replace(step, offset=None), "pixel_convolution", fields)

    def pool(self, index: int, step: FixedOperation, reads: Shape) -> None:
        """A maximum or an average; in integers, tables say by what the sums of cut windows are multiplied."""
        op = step.op
        fields: dict[str, Any] = {"in": self.address(op.inputs[0]), "maximum": int(op.attributes["kind"] == "max")}
        if not self.integer:
            fields["count_padding"] = int(op.attributes["count_padding"])
        elif step.factors is not None:
            for key, numbers in zip(("row_factor", "column_factor"), step.factors, strict=True):
                fields[key] = self.table(index, key, numbers)
        fields["geometry"] = self.geometry(op, reads, op.attributes["kernel"], reads[0])
        self.call(index, step, "pool", fields)

    def transfer(self, index: int, step: FixedOperation) -> None:
        """A call for each input: its values at the nearest rows and columns go to their channels of the result."""
        op, first = step.op, 0
        for part, name in enumerate(op.inputs):
            channels, height, width = self.shapes[name]
            fields: dict[str, Any] = {
                "in": self.address(name),
                "channels": channels,
                "height": height,
                "width": width,
            }
            before = op.attributes["before"] if op.operation == "pad_channels" else first
            ends = (first, first + channels) if op.operation == "concatenate" else (0, op.shape[0])
            fields |= {"out_height": op.shape[1], "out_width": op.shape[2], "first": before}
            stays = not self.integer or step.up[part] + step.down == 0
            changed = op.tensors or op.residual or op.bits or "activation" in op.attributes
            fields |= {"begin": ends[0], "end": ends[1], "plain": int(stays and not changed)}
            self.call(index, step, "transfer", fields, part)
            first += channels

    def geometry(self, op: Operation, reads: Shape, kernel: Sequence[int], channels: int) -> str:
        """The geometry of a window operation; its channels in and out are those of one group."""
        a = op.attributes
        padding = a["padding"] if op.operation == "pool" else [a["padding"][0], a["padding"][2]]
        dilation = a.get("dilation", [1, 1])
        out = op.shape[0] // a.get("groups", 1)
        numbers = [channels, *reads[1:], out, *op.shape[1:], *kernel, *a["stride"], *padding, *dilation]
        numbers.append(self.arena.rings.get(op.inputs[0], reads[1]) if op.inputs else reads[1])
        return "{" + ", ".join(map(str, numbers)) + "}"

    def epilogue(self, index: int, step: FixedOperation, part: int) -> str:
        """The initializer of an operation's epilogue."""
        op = step.op
        fields: dict[str, Any] = {}
        if index in self.layers:
            fields["products"] = self.layers[index].products
        if "threshold" in op.tensors:
            fields["threshold"] = self.table(index, "threshold", op.tensors["threshold"])
        elif self.integer:
            if step.direct:
                assert step.multiplier is not None
                offset = np.zeros(1, np.int32) if step.offset is None else step.offset
                products = self.layers[index].products if index in self.layers else 0
                pair = 2 * step.multiplier, offset - products * step.multiplier
                pairs = np.stack([np.broadcast_to(each, op.shape[0]) for each in pair], 1)
                fields["affine"] = self.pairs_table(index, "affine", pairs)
            if step.slope is not None or step.signs is not None:
                both = (each if each is not None else np.zeros(1) for each in (step.slope, step.signs))
                slope, sign = (np.broadcast_to(each, op.shape[0]).astype(np.int64) for each in both)
                slope <<= 32 - step.value_bits
                fields["bend"] = self.pairs_table(index, "bend", np.stack([slope, sign], 1))
            for key in () if step.direct else ("multiplier", "offset"):
                if (numbers := getattr(step, key)) is not None:
                    fields[key] = self.table(index, key, np.broadcast_to(numbers, op.shape[0]))
            fields |= {"up": step.up[part], "residual_up": step.residual_up, "slope_up": step.slope_up}
            short = step.value_bits == 32 and step.largest == INT16
            flags = [name for name, has in (("FLOOR", step.floor), ("FAST", step.fast), ("SHORT", short)) if has]
            fields |= {"down": step.down, "flags": " | ".join(flags) or 0}
        else:
            for key in ("multiplier", "offset", "slope"):
                if key in op.tensors:
                    fields[key] = self.table(index, key, op.tensors[key])
        activation = op.attributes.get("activation")
        if activation is not None:
            fields["activation"] = activation.upper()
        if activation == "clip" and self.integer:
            fields["ends"] = self.table(index, "ends", np.array([step.low, step.high], np.int32))
        elif activation == "clip":
            fields |= {key: number(np.float32(op.attributes[key])) for key in ("low", "high")}
        for key, value in (("residual", op.residual), ("real", op.real), ("bits", op.bits)):
            if value is not None:
                fields[key] = self.address(value)
                if value in self.arena.rings:
                    fields[f"{key}_ring"] = self.arena.rings[value] * op.shape[2]
        fields["channels"] = op.shape[0]
        if op.bits is not None:
            fields["units"] = -(-op.shape[0] // 16)
        return initializer({key: value for key, value in fields.items() if value != 0})

    def call(self, index: int, step: FixedOperation, operator: str, fields: Mapping[str, Any], part: int = 0) -> None:
        """A call of an operator, and the constant that describes it."""
        variable = f"op{index}" if part == 0 else f"op{index}_{part}"
        epilogue = f"\n    .epilogue = {self.epilogue(index, step, part)}}}"
        body = initializer(fields).removesuffix("}") + "," + epilogue
        self.tables.append(f"/* {comment(step.op.source)} */\nstatic const {operator}_t {variable} = {body};\n")
        given = ["input"] if operator in ("read_pixels", "pixel_convolution") else []
        streamed = self.stream is not None and index < len(self.stream.bands)
        if streamed and self.stream is not None:
            given += self.stream.rows(index, "i", step.op.shape[1])
        elif operator in BY_ROWS:
            given += ["0", str(step.op.shape[1])]
        if self.stream is not None and index == 0:
            self.calls.append(f"    for (i = 0; i < {self.stream.steps}; ++i) {{")
        times = self.stream.steps if streamed and self.stream is not None else 1
        inputs = tuple(self.shapes[name] for name in step.op.inputs) or (self.program.input_shape,)
        self.made.append(Call(operator, step, inputs, part, self.layers.get(index), times))
        self.calls.append(f"{' ' * 8 if streamed else ' ' * 4}{operator}({', '.join([f'&{variable}', *given])});")
        if self.stream is not None and index == len(self.stream.bands) - 1:
            self.calls.append("    }")
        self.operators.add(operator)
        self.table_bytes += description_bytes(operator, integer=self.integer)

    def constant(self, index: int, op: Operation) -> None:
        """A value that is the same for every image: a table, in the order of such values."""
        array = op.tensors["value"]
        ordered = np.empty(array.size, array.dtype)
        ordered[places_of(op.shape)] = array.reshape(-1)
        self.constants[op.real or ""] = self.table(index, "value", ordered)

    def describe(
        self, index: int, op: Operation, operator: str, fields: Mapping[str, Any], parts: Mapping[str, float], part: int
    ) -> None:
        """A call of an operator on arrays, which has no epilogue, and the constant that describes it."""
        variable = f"op{index}" if part == 0 else f"op{index}_{part}"
        body = initializer({key: value for key, value in fields.items() if value != 0})
        self.tables.append(f"/* {comment(op.source)} */\nstatic const {operator}_t {variable} = {body};\n")
        self.made.append(Call(operator, FixedOperation(op), (), of_arrays=parts))
        self.calls.append(f"    {operator}(&{variable});")
        self.operators.add(operator)
        self.table_bytes += description_bytes(operator, integer=self.integer)

    def use_function(self, kind: str, name: str) -> str:
        """The name of a function of one or of two values, which is then written."""
        self.functions[f"{kind}_{name}"] = definition(kind, name)
        return f"{kind}_{name}"

    def address(self, value: str, offset: int = 0) -> str:
        """The C expression of the address of an element of a value; ``offset`` counts from its first."""
        array = self.constants.get(value)
        if array is None:
            return self.arena.address(value, "bits" if value in self.bits else "real", offset)
        return f"{array} + {offset}" if offset else array

    def pairs_table(self, index: int, what: str, pairs: Array) -> str:
        """Define an array of pairs of int32, structures of the type ``what`` and ``_t``; returns its name."""
        name = f"op{index}_{what}"
        entries = [f"{{{one}, {other}}}" for one, other in pairs.tolist()]
        self.tables.append(f"static const {what}_t {name}[{len(pairs)}] = {{\n{rows(entries)}}};\n")
        self.table_bytes += 8 * len(pairs)
        return name

    def either_table(self, index: int, what: str, counted: Array, other: Array) -> str:
        """Define the weights of a binary convolution: ``counted`` where an instruction counts bits, else ``other``."""
        name, before, size = self.table(index, what, counted), self.tables.pop(), self.table_bytes
        size -= -(-counted.nbytes // 4) * 4
        self.table_bytes = size
        self.table(index, what, other)
        self.tables.append(f"#ifdef MODEL_POPCOUNT\n{before}#else\n{self.tables.pop()}#endif\n")
        return name

    def table(self, index: int, what: str, numbers: Array) -> str:
        """Define a constant array, once; returns its name."""
        kinds = {"f": "float", "u4": "uint32_t", "u2": "uint16_t", "i4": "int32_t", "i2": "int16_t", "i1": "int8_t"}
        flat = np.ascontiguousarray(numbers).reshape(-1)
        code = flat.dtype.kind if flat.dtype.kind == "f" else f"{flat.dtype.kind}{flat.dtype.itemsize}"
        name = f"op{index}_{what}"
        declaration = f"static const {kinds[code]} {name}[{len(flat)}]"
        if not any(table.startswith(declaration) for table in self.tables):
            self.tables.append(f"{declaration} = {{\n{rows([number(value) for value in flat])}}};\n")
            self.table_bytes += -(-flat.nbytes // 4) * 4
        return name
