"""Which kind each parameter of a network is of: what weight decay tells apart."""

from __future__ import annotations

from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from biper.binarize.signs import ChannelThreshold
from biper.nn.latent import LatentWeightLayer
from biper.quantizers import RPReLU
from biper.recipes.decay import DecayKind

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_ACTIVATIONS = (nn.PReLU, RPReLU)


def kinds_of_parameters(model: nn.Module) -> dict[nn.Parameter, DecayKind]:
    """The kind of each parameter, in the order of ``model.parameters()``.

    | kind | parameters |
    | --- | --- |
    | ``latent`` | latent weights of binary layers |
    | ``real`` | weights of the other convolutions and linear layers |
    | ``scales`` | scales of binary layers |
    | ``inputs`` | what the input quantizers of binary layers learn, such as thresholds of `RSign`; other thresholds |
    | ``activations`` | what `RPReLU` and `torch.nn.PReLU` learn: shifts and slopes |
    | ``norms`` | weights and biases of batch norms and other normalizations |
    | ``biases`` | biases of convolutions and linear layers |
    | ``others`` | the rest: what weight quantizers learn, such as frequencies, and parameters of modules of your own |

    Args:
        model: the network.
    """
    found: dict[nn.Parameter, DecayKind] = dict.fromkeys(model.parameters(), "others")
    for module in model.modules():
        if isinstance(module, LatentWeightLayer):
            found.update(dict.fromkeys(cast(nn.Module, module.input_quantizer).parameters(), "inputs"))
        for name, parameter in module.named_parameters(recurse=False):
            kind = _kind_of_own(module, name)
            if kind is not None:
                found[parameter] = kind
    return found


def _kind_of_own(module: nn.Module, name: str) -> DecayKind | None:
    """The kind of a parameter that a module itself holds; None where the type of the module does not say it."""
    if isinstance(module, _NORMS):
        return "norms"
    if isinstance(module, _ACTIVATIONS):
        return "activations"
    if isinstance(module, ChannelThreshold):
        return "inputs"
    if isinstance(module, LatentWeightLayer) and name in ("weight", "scale"):
        return "latent" if name == "weight" else "scales"
    if isinstance(module, _ConvNd | nn.Linear) and name in ("weight", "bias"):
        return "real" if name == "weight" else "biases"
    return None
