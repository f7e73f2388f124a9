"""Published methods by name, each as three choices: weights, inputs and activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A published method: the names of its three choices, and the options in which it differs from their defaults.

    Attributes:
        weights: the name of the weight quantizer, see `biper.methods.weights`.
        inputs: the name of the input quantizer, see `biper.methods.inputs`.
        activation: the name of the activation, see `biper.methods.inputs`.
        options: values of options of the choices.
        about: what the method is, and its source.
    """

    weights: str
    inputs: str
    about: str
    activation: str = "network"
    options: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, Preset] = {
    "biper": Preset("biper", "approx-sign", "BiPer: the binary periodic function (Vargas et al., CVPR 2024)."),
    "bnn": Preset("ste", "ste", "BNN: the clipped straight-through estimator (Hubara et al., NeurIPS 2016)."),
    "xnor-net": Preset("xnor-net", "ste", "XNOR-Net: weights with a magnitude (Rastegari et al., ECCV 2016)."),
    "dorefa": Preset("dorefa", "dorefa", "DoReFa-Net with one bit, inputs of 0 and 1 (Zhou et al., 2016)."),
    "bi-real": Preset(
        "bi-real",
        "approx-sign",
        "Bi-Real Net: magnitude-aware weights and `ApproxSign` inputs (Liu et al., ECCV 2018).",
        options={"normalize": False},
    ),
    "ir-net": Preset("ir-net", "ir-net", "IR-Net: balanced weights and error decay (Qin et al., CVPR 2020)."),
    "recu": Preset("recu", "approx-sign", "ReCU: weights with a rectified clamp (Xu et al., ICCV 2021)."),
    "reste": Preset("reste", "reste", "ReSTE: a power function as the estimator (Wu et al., ICCV 2023)."),
    "adabin": Preset("adabin", "adabin", "AdaBin: two values that adapt to the data (Tu et al., ECCV 2022)."),
    "reactnet": Preset(
        "bi-real",
        "rsign",
        "ReActNet: magnitude-aware weights, learned thresholds and activations (Liu et al., ECCV 2020).",
        activation="rprelu",
    ),
}
"""The published methods by their names in a recipe."""
