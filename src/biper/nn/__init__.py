"""Binary layers, their autograd functions, the periodic penalty, and functions over the binary layers of a model."""

from biper.nn.conv import BinaryConv2d, branch
from biper.nn.fast_path import describe_fast_path
from biper.nn.linear import BinaryLinear
from biper.nn.norm import norm_activation
from biper.nn.penalty import periodic_penalty
from biper.nn.quantized import DEFAULT_FREQUENCY
from biper.nn.walk import BINARY_LAYERS, binary_layers, periodic_weights, set_progress_, set_stage_

__all__ = [
    "BINARY_LAYERS",
    "DEFAULT_FREQUENCY",
    "BinaryConv2d",
    "BinaryLinear",
    "binary_layers",
    "branch",
    "describe_fast_path",
    "norm_activation",
    "periodic_penalty",
    "periodic_weights",
    "set_progress_",
    "set_stage_",
]
