"""What `biper.binarize_` did with each layer of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerChange:
    """What `binarize_` did with one layer."""

    name: str
    kind: str
    weights: int
    binary: bool
    reason: str


@dataclass(frozen=True)
class BinarizeReport:
    """What `binarize_` did with every convolution and linear layer of a model, in order."""

    layers: tuple[LayerChange, ...]

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
            f"{layer.weights:>10,} weights  {layer.reason}"
            for layer in self.layers
        ]
        weights = sum(layer.weights for layer in self.layers)
        binary = sum(layer.weights for layer in self.layers if layer.binary)
        lines.append(
            f"{len(self.changed)} of {len(self.layers)} layers and {binary:,} of {weights:,} weights are now binary"
        )
        return "\n".join(lines)
