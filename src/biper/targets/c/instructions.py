"""How many instructions a program in integers alone takes: a cost model of its operators.

A call of an operator repeats a few parts: products, outputs, pixels. The instructions of a call are the sum of how
often each part runs, times what it costs once. ``benchmarks/c_instructions.py`` fitted the costs of `COSTS` to counts
of programs of random layers on an emulated Cortex-M3, compiled with ``-O2``. It also compares the model with the counts
of eight networks that the fit does not see: the error of their sums is at most 8 %. Of a single layer that takes 5 %
of the instructions it was up to 29 % with an earlier fit, and of a small one more, because a compiler adapts an
operator that is called only once to the sizes of that call. Other processors take other numbers of instructions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biper.runtime.program import Operation, Shape
from biper.targets.c.costs import COSTS
from biper.targets.c.fixed_point import FixedOperation
from biper.targets.c.kernels import BinaryLayer
from biper.targets.c.layout import Loop

PROCESSOR = "a Cortex-M3 at -O2"
"""What the counts are of."""

MOST_UNITS = 15
"""The constant of `lookup.c`: how many units in a row are looked up at a time."""


@dataclass(frozen=True)
class Window:
    """How often the taps of a kernel lie inside the image, over all pixels of a result.

    Attributes:
        rows: rows of the kernel that do.
        taps: taps that do.
        border: pixels of which at least one tap does not.
        columns: columns of pixels of which at least one tap lies beside the image.
    """

    rows: int
    taps: int
    border: int
    columns: int


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Attributes:
        operator: its name in C.
        step: the operation.
        inputs: the shapes of what it reads.
        part: which of the inputs it reads, where an operation makes a call for each.
        layer: the sizes of a binary convolution of one group.
        times: how many calls there are: more than one where the operation runs some rows at a time.
        of_arrays: how often each part of an operator on arrays runs; None for an operator on images.
    """

    operator: str
    step: FixedOperation
    inputs: tuple[Shape, ...]
    part: int = 0
    layer: BinaryLayer | None = None
    times: int = 1
    of_arrays: Mapping[str, float] | None = None

    @property
    def instructions(self) -> float:
        """What the model says that all of these calls take."""
        costs = COSTS[self.operator]
        return sum(costs.get(part, 0.0) * count for part, count in self.parts().items())

    def parts(self) -> dict[str, float]:
        """How often each part of the operator runs."""
        if self.of_arrays is not None:
            return dict(self.of_arrays)
        op = self.step.op
        pixels, channels = math.prod(op.shape[1:]), op.shape[0]
        outputs = pixels * channels
        parts: dict[str, float] = {"calls": self.times, "rows": op.shape[1], "pixels": pixels}
        match self.operator:
            case "lookup_convolution":
                assert self.layer is not None
                window, blocks = self.window(op.tensors["weight"].shape[1:3]), self.layer.blocks
                units = self.layer.units // math.prod(op.tensors["weight"].shape[1:3])
                row_units = units * op.tensors["weight"].shape[2]
                together = op.attributes["dilation"][1] == 1 and row_units <= MOST_UNITS
                looks, most = (window.rows, row_units) if together else (window.taps, units)
                parts |= self.finish(outputs) | {
                    "rows": op.shape[1] * blocks * self.layer.passes,
                    "pixels": pixels * blocks * self.layer.passes,
                    "runs": op.shape[1] * blocks * self.layer.passes * (window.columns + 1),
                    "look-ups": looks * blocks,
                    "moves": looks / max(MOST_UNITS // most, 1) * blocks,
                    "units": window.taps * units * blocks,
                    "single units": looks * (most % 3) * blocks,
                    "units of tables": blocks * self.layer.units * self.times,
                }
            case "binary_convolution":
                assert self.layer is not None
                window, words = self.window(op.tensors["weight"].shape[1:3]), -(-self.layer.units // 2)
                whole = (pixels - window.border) * channels
                parts |= self.finish(outputs) | {
                    "nines": words // 9 * whole,
                    "threes": words % 9 // 3 * whole,
                    "ones": words % 3 * whole,
                    "masked": words * window.border * channels,
                    "units": pixels * self.layer.units,
                }
            case "grouped_binary_convolution":
                taps = channels * self.window(op.tensors["weight"].shape[1:3]).taps
                rows = channels * self.window(op.tensors["weight"].shape[1:3]).rows
                parts |= {"outputs": outputs, "kernel rows": rows, "taps": taps}
                parts |= {"units": taps * self.units_of_groups(), "groups": pixels * op.attributes["groups"]}
            case "pixel_convolution":
                assert self.step.weight is not None
                kernel, fours, blocks = self.step.weight.shape[2:], -(-channels // 4), -(-channels // 16)
                window, products = self.window(kernel), math.prod(self.step.weight.shape[1:])
                parts |= self.finish(outputs) | {
                    "rows": op.shape[1] * blocks,
                    "pixels": pixels * blocks,
                    "fours": fours * pixels,
                    "kernel rows": blocks * pixels * kernel[0],
                    "copied": blocks * pixels * products,
                    "products": fours * pixels * products,
                    "border": window.border * blocks * math.prod(kernel),
                    "missing": (pixels * math.prod(kernel) - window.taps) * channels,
                }
            case "convolution" | "signed_convolution":
                window, groups = self.window(self.kernel(op)), op.attributes["groups"]
                taps = channels * window.taps
                parts |= self.finish(outputs) | {
                    "groups": pixels * groups,
                    "kernel rows": channels * window.rows,
                    "taps": taps,
                    "products": taps * (self.inputs[0][0] // groups),
                }
            case "pool":
                reads = channels * self.window(op.attributes["kernel"]).taps
                parts |= self.finish(outputs) | {f"reads, {op.attributes['kind']}": reads}
            case "transfer":
                own = outputs if op.operation != "concatenate" else pixels * self.inputs[self.part][0]
                parts |= {"moved": own} if self.plain_transfer() else self.finish(own)
            case _:
                parts |= self.finish(outputs)
        return parts

    def window(self, kernel: Sequence[int]) -> Window:
        """How often the taps of a kernel lie inside the image."""
        get, out, reads = self.step.op.attributes, self.step.op.shape[1:], self.inputs[0][1:]
        padding = get["padding"] if self.operator == "pool" else get["padding"][::2]
        axes = []
        for axis, taps in enumerate(kernel):
            starts = np.arange(out[axis]) * get["stride"][axis] - padding[axis]
            places = starts[:, None] + np.arange(taps) * get.get("dilation", [1, 1])[axis]
            axes.append(((places >= 0) & (places < reads[axis])).sum(1))
        rows, columns = axes
        whole = int((rows == kernel[0]).sum()) * int((columns == kernel[1]).sum())
        taps = int(rows.sum()) * int(columns.sum())
        return Window(int(rows.sum()) * out[1], taps, math.prod(out) - whole, int((columns < kernel[1]).sum()))

    def kernel(self, op: Operation) -> tuple[int, ...]:
        """Rows and columns of the kernel of a real convolution."""
        weight = op.tensors["weight"]
        return tuple(weight.shape[1:3] if weight.dtype == "uint8" else weight.shape[2:])

    def units_of_groups(self) -> int:
        """How many units of 16 bits the inputs of a group take at most."""
        groups: int = self.step.op.attributes["groups"]
        inside = self.inputs[0][0] // groups
        return max(((group + 1) * inside - 1) // 16 - group * inside // 16 for group in range(groups)) + 1

    def finish(self, outputs: int) -> dict[str, float]:
        """What finishing sums takes: there are faster ways for what is frequent."""
        step, op = self.step, self.step.op
        if "threshold" in op.tensors:
            return {"outputs, bits": outputs}
        if step.fast and step.direct:
            sixteens = outputs // op.shape[0] * (op.shape[0] // 16 * 16)
            kind = "residual" if step.slope is None else "bent"
            return {f"outputs, {kind}": sixteens} | self.other(outputs - sixteens)
        if step.fast and self.operator in ("pixel_convolution", "pool"):
            return {"outputs, plain" if step.slope is None else "outputs, bent": outputs}
        return self.other(outputs)

    def other(self, outputs: int) -> dict[str, float]:
        """What finishing sums takes, one after the other."""
        step, op = self.step, self.step.op
        also = {
            "multiplier": step.multiplier is not None and not step.direct,
            "residual": op.residual is not None,
            "activation": "activation" in op.attributes,
            "slope": step.slope is not None,
            "bits": op.bits is not None,
            "real": op.real is not None,
        }
        return {"outputs": float(outputs)} | {
            f"outputs with {name}": float(outputs) for name, has in also.items() if has
        }

    def plain_transfer(self) -> bool:
        """Whether values are moved and not computed."""
        op, step = self.step.op, self.step
        changed = op.tensors or op.residual or op.bits or "activation" in op.attributes
        return step.up[self.part] + step.down == 0 and not changed


def array_parts(operator: str, fields: Mapping[str, Any], nests: Sequence[Sequence[Loop]]) -> dict[str, float]:
    """How often each part of an operator on arrays runs.

    Args:
        operator: its name in C.
        fields: those of its description.
        nests: its nested loops, the outermost loop first; the second nest runs at each place of the first.
    """
    (places, carries), (within, within_carries) = (_steps(nests[i]) if i < len(nests) else (1, 1) for i in (0, 1))
    elements = places * fields.get("size", 1)
    parts: dict[str, float] = {"calls": 1, "places": places, "carries": carries}
    match operator:
        case "fill":
            return {"elements": elements}
        case "reduce" | "normalize":
            return parts | {"within": places * within, "within carries": places * within_carries}
        case "matmul":
            outputs = places * fields["rows"] * fields["columns"]
            return parts | {"outputs": outputs, "products": outputs * fields["inner"]}
        case "sample":
            kind = "weighted" if "weight" in fields else "plain"
            return parts | {f"{kind} elements": elements, f"{kind} taps": elements * (fields["taps"] - 1)}
        case "choose":
            return parts
        case "binary":
            function = fields["function"]
            compared = any(name in function for name in ("equal", "greater", "less", "maximum", "minimum"))
            parts |= {"compared": elements * compared, "divided": elements * ("divide" in function)}
    shifts = sum(fields.get(name, 0) < 0 for name in ("up", "right_up", "down"))
    return parts | {"elements": elements, "rounded": elements * shifts}


def _steps(rows: Sequence[Loop]) -> tuple[int, int]:
    """How many places nested loops have, and how often one of them begins again."""
    counts = [row[0] for row in rows]
    return math.prod(counts), sum(math.prod(counts[:loop]) for loop in range(len(counts))) or 1
