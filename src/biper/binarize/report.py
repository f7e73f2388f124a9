"""The report of `biper.binarize_` on each layer of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerChange:
    """The decision of `binarize_` about one layer."""

    name: str
    """The qualified name of the layer."""
    kind: str
    """The name of the layer's class before the change."""
    weights: int
    """The number of its weights, without the bias."""
    binary: bool
    """Whether `binarize_` made it binary."""
    reason: str
    """The reason why it stayed as it was; empty if it became binary."""


@dataclass(frozen=True)
class BinarizeReport:
    """The report of `binarize_` on all convolution and linear layers of a model. ``print`` shows it as a table."""

    layers: tuple[LayerChange, ...]
    """One entry for each layer, in the order of ``model.named_modules()``."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the layers that became binary."""
        return tuple(layer.name for layer in self.layers if layer.binary)

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the layers that did not change."""
        return tuple(layer.name for layer in self.layers if not layer.binary)

    def __str__(self) -> str:
        lines = [
            f"{'binary' if layer.binary else 'real':<7} {layer.name:<32} {layer.kind:<16} "
            f"{layer.weights:>10,} weights  {layer.reason}"
            for layer in self.layers
        ]
        weights = sum(layer.weights for layer in self.layers)
        binary = sum(layer.weights for layer in self.layers if layer.binary)
        lines.append(
            f"{len(self.changed)} of {len(self.layers)} layers and {binary:,} of {weights:,} weights are now binary"
        )
        return "\n".join(lines)
