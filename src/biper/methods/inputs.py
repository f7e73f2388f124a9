"""How the inputs of a layer become bits, and which activation precedes them, as data: names and options."""

from __future__ import annotations

from typing import Literal

from biper.methods.estimators import ErrorDecayOptions, PowerOptions
from biper.methods.fields import Settings


class ApproxSignInputs(Settings):
    """Signs with the gradient of a piecewise polynomial: BiPer, Bi-Real Net, ReCU (Liu et al., ECCV 2018)."""

    name: Literal["approx-sign"] = "approx-sign"
    normalize: bool = True
    """Whether training divides the input by its standard deviation over the sample, as BiPer does."""


class SteInputs(Settings):
    """Signs with the clipped straight-through estimator: BNN, XNOR-Net (Hubara et al., NeurIPS 2016)."""

    name: Literal["ste"] = "ste"


class DoReFaInputs(Settings):
    """DoReFa-Net with one bit: inputs of 0 and 1 (Zhou et al., 2016)."""

    name: Literal["dorefa"] = "dorefa"


class IrNetInputs(ErrorDecayOptions):
    """IR-Net: signs with the error-decay estimator (Qin et al., CVPR 2020)."""

    name: Literal["ir-net"] = "ir-net"


class ReSteInputs(PowerOptions):
    """ReSTE: signs with a power function as the estimator (Wu et al., ICCV 2023)."""

    name: Literal["reste"] = "reste"


class AdaBinInputs(Settings):
    """AdaBin: each layer learns its two values (Tu et al., ECCV 2022)."""

    name: Literal["adabin"] = "adabin"


class RSignInputs(Settings):
    """ReActNet: signs with a learned threshold for each channel (Liu et al., ECCV 2020)."""

    name: Literal["rsign"] = "rsign"


Inputs = ApproxSignInputs | SteInputs | DoReFaInputs | IrNetInputs | ReSteInputs | AdaBinInputs | RSignInputs
"""The settings of one input quantizer."""

INPUTS: dict[str, type[Inputs]] = {kind.model_fields["name"].default: kind for kind in Inputs.__args__}
"""The settings class of each input quantizer by its name in a recipe."""


class NetworkActivation(Settings):
    """The activation of the network itself: hardtanh, or relu where only the weights are binary."""

    name: Literal["network"] = "network"


class HardtanhActivation(Settings):
    """Hardtanh: values are clamped to -1 and +1."""

    name: Literal["hardtanh"] = "hardtanh"


class RPReLUActivation(Settings):
    """ReActNet: a PReLU with learned shifts and slopes for each channel (Liu et al., ECCV 2020)."""

    name: Literal["rprelu"] = "rprelu"


class PReLUActivation(Settings):
    """PReLU: a learned slope below zero for each channel, which starts at 1/4 (He et al., ICCV 2015)."""

    name: Literal["prelu"] = "prelu"


Activation = NetworkActivation | HardtanhActivation | RPReLUActivation | PReLUActivation
"""The settings of one activation."""

ACTIVATIONS: dict[str, type[Activation]] = {kind.model_fields["name"].default: kind for kind in Activation.__args__}
"""The settings class of each activation by its name in a recipe."""
