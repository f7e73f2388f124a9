"""Gives the channels of a real value equal ranges, so that all of them use the 16 bits that the value is stored in.

A relu or a prelu commutes with a positive factor, ``prelu(s x) = s prelu(x)``, and so do sums, pools and copies. A
channel can therefore be multiplied by s where it is made, in the multiplier and the offset of its operation, and be
divided by s where it is read last: the network computes the same. Channels that are added, pooled or copied have the
same factor, and signs need none.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv:1906.04721, which does so between two layers with weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations import OPERATIONS as TABLE
from biper.runtime.program import Operation, Program
from biper.targets.c.fixed_point import PIXELS
from biper.targets.c.ranges import LEAST

Array = NDArray[Any]
Channel = tuple[str, int]
"""A channel of a value, by the name of the value."""

COPIES = frozenset({"elementwise", "pool", "pad_channels", "resize", "concatenate"})
"""The operations whose channels are those of their inputs."""

MARGIN = 1.5
"""By how much a channel may become larger than it was seen, before it saturates."""

END = 4.0
"""Where balanced channels saturate."""

LEAST_SHARE = 2.0**-6
"""A channel is taken to reach this share of the largest of its value, so that no factor is enormous."""


def balanced(program: Program, most: Mapping[str, Array]) -> tuple[Program, dict[str, float]]:
    """A program that computes the same, with channels of equal ranges.

    A channel is left as it is where something needs it unscaled: a clip, a real convolution or an operation on arrays
    reads or makes it, or it is an input or a result of the program.

    Args:
        program: a validated program.
        most: the largest magnitude of each channel of its real values, (C,) by name. Channels of other values, and
            those that must have the same factor, are left as they are.

    Returns:
        The program, and how large each value of ``most`` is to be taken to be, by name: half of where it saturates.
    """
    groups = _Groups(program)
    for op in program.operations:
        _add_constraints(groups, op)
    made = {op.real for op in program.operations}
    groups.fix(*program.results.values(), *(name for name in groups.values if name not in made))
    factors = groups.factors(most)
    operations = tuple(_scaled(op, factors) for op in program.operations)
    return replace(program, operations=operations), {
        name: float((seen * factors[name] * np.where(factors[name] == 1, 1, MARGIN / 2)).max())
        for name, seen in most.items()
        if name in factors
    }


def _made(op: Operation) -> str:
    """The name of what the epilogue of an operation computes; signs alone are made of a number without a name."""
    return op.real or f"{op.bits} before its signs"


class _Groups:
    """Channels that must have the same factor: a forest, in which each points towards the first of its group."""

    def __init__(self, program: Program) -> None:
        self.values = program.shapes
        shapes = {**self.values, **{_made(op): op.shape for op in program.operations}}
        self.channels = {name: shape[0] for name, shape in shapes.items() if len(shape) == 3}
        self.above: dict[Channel, Channel] = {}
        self.fixed: set[Channel] = set()

    def first(self, channel: Channel) -> Channel:
        """The channel that stands for the group of a channel."""
        while (above := self.above.get(channel, channel)) != channel:
            self.above[channel] = self.above.get(above, above)
            channel = above
        return channel

    def join(self, one: str, other: str, before: int = 0) -> None:
        """Channels of two values have the same factors: ``before + c`` of the first, and ``c`` of the other."""
        for channel in range(self.channels[other]):
            self.above[self.first((one, before + channel))] = self.first((other, channel))

    def fix(self, *names: str | None) -> None:
        """The factors of all channels of values are 1."""
        for name in names:
            if name is not None:
                self.fixed.update((name, channel) for channel in range(self.channels.get(name, 0)))

    def factors(self, most: Mapping[str, Array]) -> dict[str, Array]:
        """The factors of the channels of each value: with them, each group saturates at `END`."""
        fixed = set(map(self.first, self.fixed))
        largest: dict[Channel, float] = {}
        for name, count in self.channels.items():
            least = max(float(most[name].max()) * LEAST_SHARE, LEAST) if name in most else LEAST
            for channel in range(count):
                first = self.first((name, channel))
                largest[first] = max(largest.get(first, 0.0), least, float(most[name][channel]) if name in most else 0)
                if name not in most and name in self.values:
                    fixed.add(first)
        end = END * (1 - 2.0**-10) / MARGIN
        return {
            name: np.array([1.0 if each in fixed else end / largest[each] for each in map(self.first, channels)])
            for name, channels in (
                (name, [(name, channel) for channel in range(count)]) for name, count in self.channels.items()
            )
        }


def _add_constraints(groups: _Groups, op: Operation) -> None:
    """Join and fix the channels that an operation reads and makes."""
    made = _made(op)
    if op.operation == PIXELS or not TABLE[op.operation].on_images or op.operation == "flatten":
        groups.fix(made, op.residual, *op.inputs)
        return
    moves = op.operation in COPIES and "multiplier" not in op.tensors
    if op.attributes.get("activation") == "clip" or (op.real is None and op.residual is None and not moves):
        groups.fix(made)
    if op.residual is not None:
        groups.join(made, op.residual)
    if op.operation not in COPIES:
        groups.fix(*op.inputs)
    elif moves:
        before = op.attributes.get("before", 0)
        for name in op.inputs:
            groups.join(made, name, before)
            before += groups.channels[name]


def _scaled(op: Operation, factors: Mapping[str, Array]) -> Operation:
    """The operation whose inputs and result are multiplied by the factors of their channels."""
    by = factors.get(_made(op), np.ones(1))
    multiplier = op.tensors.get("multiplier")
    weighed = by
    if op.operation in COPIES:
        if multiplier is None:
            weighed = np.ones(1)
        else:
            read = np.concatenate([factors[name] for name in op.inputs])
            if op.operation == "pad_channels":
                read = np.pad(read, (op.attributes["before"], op.attributes["after"]), constant_values=1)
            weighed = by / read
    if np.all(by == 1) and np.all(weighed == 1):
        return op
    tensors = dict(op.tensors)
    if not np.all(weighed == 1):
        tensors["multiplier"] = ((1.0 if multiplier is None else multiplier) * weighed).astype(np.float32)
        tensors.setdefault("offset", np.zeros(op.shape[0], np.float32))
    if "offset" in tensors:
        tensors["offset"] = (tensors["offset"] * by).astype(np.float32)
    return replace(op, tensors=tensors)
