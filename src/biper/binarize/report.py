"""What `biper.binarize_` did with each layer of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


def _percent(share: float) -> str:
    """A share in percent, rounded down to two digits behind the point, so that only a whole share is 100 %."""
    return f"{math.floor(share * 10_000) / 100:g}%"


@dataclass(frozen=True)
class LayerChange:
    """What `biper.binarize_` did with one layer.

    Attributes:
        name: the qualified name of the layer.
        kind: the type that the layer had.
        weights: the number of its weights.
        binary: whether it is binary now.
        reason: why it stayed real; empty for a binary layer.
        order: its position in order of execution, from 0; None if it did not run.
        replaced: the activations in front of it that were replaced, as ``"name: ReLU -> Hardtanh"``.
        shift: what stands in front of its sign now, ``"threshold"`` or ``"norm"``; empty for nothing.
        positive_share: the share of its input values whose sign is +1, 0 to 1; None if it was not measured.
        multiply_accumulates: products for one sample: of bits in a binary layer, of numbers in a real one.
        kept_signs: the share of its trained weights whose sign is that of their binary value, 0 to 1; None unless
            the config says ``pretrained=True``.
        frequency: ω that was set from its trained weights, in radians per unit of weight; None without one.
    """

    name: str
    kind: str
    weights: int
    binary: bool
    reason: str = ""
    order: int | None = None
    replaced: tuple[str, ...] = ()
    shift: str = ""
    positive_share: float | None = None
    multiply_accumulates: int | None = None
    kept_signs: float | None = None
    frequency: float | None = None

    def explanation(self) -> str:
        """One line on why the layer is real, or on what was changed in front of it."""
        if not self.binary:
            return self.reason
        parts = [*self.replaced]
        if self.shift:
            parts.append(f"a learned {self.shift} in front of its sign")
        if self.positive_share is not None:
            parts.append(f"{self.positive_share:.0%} of its input is +1")
        if self.kept_signs is not None:
            frequency = "" if self.frequency is None else f" (ω = {self.frequency:.3g})"
            parts.append(f"{_percent(self.kept_signs)} of its weights keep their sign{frequency}")
        return "; ".join(parts)


@dataclass(frozen=True)
class BinarizeReport:
    """What `biper.binarize_` did with every layer of a model that has weights to multiply with, in order of execution.

    Attributes:
        layers: convolutions and linear layers, then the layers of other kinds that were left alone.
        notes: what the whole model is told: that no example was given, say.
    """

    layers: tuple[LayerChange, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the layers that became binary."""
        return tuple(layer.name for layer in self.layers if layer.binary)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the layers that stayed real."""
        return tuple(layer.name for layer in self.layers if not layer.binary)

    def __str__(self) -> str:
        lines = [
            f"{'binary' if layer.binary else 'real':<7} {layer.name:<32} {layer.kind:<16} "
            f"{layer.weights:>10,} weights  {layer.explanation()}".rstrip()
            for layer in self.layers
        ]
        return "\n".join([*lines, *self._totals(), *self.notes])

    @property
    def kept_signs(self) -> float | None:
        """The share of all binary weights whose sign is that of their trained value; None unless pretrained."""
        measured = [layer for layer in self.layers if layer.kept_signs is not None]
        weights = sum(layer.weights for layer in measured)
        return sum(layer.weights * (layer.kept_signs or 0) for layer in measured) / weights if weights else None

    def _totals(self) -> Iterator[str]:
        weights = sum(layer.weights for layer in self.layers)
        binary = sum(layer.weights for layer in self.layers if layer.binary)
        yield f"{len(self.changed)} of {len(self.layers)} layers and {binary:,} of {weights:,} weights are now binary"
        products = [layer for layer in self.layers if layer.multiply_accumulates is not None]
        if products:
            total = sum(layer.multiply_accumulates or 0 for layer in products)
            bits = sum(layer.multiply_accumulates or 0 for layer in products if layer.binary)
            yield f"{bits:,} of {total:,} multiply-accumulates for one sample are of bits"
        if self.kept_signs is not None:
            yield f"{_percent(self.kept_signs)} of the binary weights keep the sign of their trained value"

    def __rich__(self) -> object:
        """The report as a table of the `rich` package, for a terminal."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column, justify in (
            ("layer", "left"),
            ("kind", "left"),
            ("weights", "right"),
            ("", "left"),
            ("why", "left"),
        ):
            table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for layer in self.layers:
            style = "bold" if layer.binary else "dim"
            row = (layer.name, layer.kind, f"{layer.weights:,}", "binary" if layer.binary else "real")
            table.add_row(*row, layer.explanation(), style=style)
        return Group(table, *self._totals(), *self.notes)
