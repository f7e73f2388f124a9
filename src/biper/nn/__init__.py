"""Binary layers in torch, and functions over the binary layers of a model.

`BinaryConv1d`, `BinaryConv2d` and `BinaryLinear` are drop-in replacements of torch's layers. `binary_layers`,
`periodic_weights`, `set_stage_` and `set_progress_` work on all binary layers of a model. `keep_signs_` sets
frequencies with which trained float weights keep their signs, and `kept_signs` measures how many do. `make_binary_` and
`make_real_` turn one layer into the other kind in place. `periodic_penalty` is BiPer's regularizer. `norm_activation`
and `branch` are for the authors of networks: they let several modules run in one native kernel.
"""

from biper.nn.conv import BinaryConv2d, branch
from biper.nn.conv1d import BinaryConv1d
from biper.nn.convert import make_binary_, make_real_
from biper.nn.fast_path import describe_fast_path
from biper.nn.kept_signs import keep_signs_, kept_signs
from biper.nn.linear import BinaryLinear
from biper.nn.norm import norm_activation
from biper.nn.penalty import periodic_penalty
from biper.nn.stage import set_stage_
from biper.nn.walk import BINARY_LAYERS, BinaryLayer, binary_layers, periodic_weights, set_progress_
from biper.quantizers import DEFAULT_FREQUENCY

__all__ = [
    "BINARY_LAYERS",
    "DEFAULT_FREQUENCY",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryLayer",
    "BinaryLinear",
    "binary_layers",
    "branch",
    "describe_fast_path",
    "keep_signs_",
    "kept_signs",
    "make_binary_",
    "make_real_",
    "norm_activation",
    "periodic_penalty",
    "periodic_weights",
    "set_progress_",
    "set_stage_",
]
