"""Make the convolutions and linear layers of any torch model binary, in place, and say what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from biper.binarizers import choose_frequencies_, make_input_quantizer, make_weight_quantizer
from biper.errors import ModelError
from biper.methods import AnyMethod, BiperMethod
from biper.nn import BINARY_LAYERS, BinaryConv2d, BinaryLinear


class BinarizeConfig(BaseModel):
    """Which layers `binarize_` changes, and into what.

    Without ``include``, every convolution and linear layer is made binary but the first and the last such layer
    of the model (in the order of `named_modules`). With ``include``, those whose qualified name matches one of its
    patterns (as in a shell: ``"features.*"``). ``exclude`` keeps matching layers real in either case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    bits: Literal["W1A1", "W1A32"] = "W1A1"
    frequency: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """ω of the new layers, in radians per unit of weight."""
    method: AnyMethod = BiperMethod()
    """How weights and inputs become bits. The model keeps its activations."""


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


def binarize_(model: nn.Module, config: BinarizeConfig | None = None) -> BinarizeReport:
    """Replace convolutions and linear layers of a model by `BinaryConv2d` and `BinaryLinear`, in place.

    Weights and biases are kept: the old weights (the same parameters) become the latent weights. A layer that is used
    in several places stays shared. The new layers are in stage ``"relaxed"``; see `set_stage_`.

    Args:
        model: any module that holds `torch.nn.Conv2d` or `torch.nn.Linear` layers.
        config: which layers, and into what; default all but the first and the last.

    Returns:
        What became of each convolution and linear layer; print it.

    Raises:
        ModelError: the model itself is a single layer (it cannot be replaced in place), has no layer to make binary,
            or a pattern matches no layer.
    """
    config = config or BinarizeConfig()
    if isinstance(model, nn.Conv2d | nn.Linear):
        raise ModelError(
            f"binarize_ replaces layers inside a model and got a single {type(model).__name__}: "
            "make a BinaryConv2d or BinaryLinear, or wrap it in torch.nn.Sequential"
        )
    candidates = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    for pattern in (*(config.include or ()), *config.exclude):
        if not any(fnmatchcase(name, pattern) for name in candidates):
            raise ModelError(
                f"pattern {pattern!r} matches no convolution or linear layer; there are {list(candidates)}"
            )
    decide = _decider(list(candidates), config)
    layers = []
    for name, module in candidates.items():
        reason = decide(name)
        if not reason and type(module) not in (nn.Conv2d, nn.Linear):
            reason = "already binary" if isinstance(module, BINARY_LAYERS) else f"a subclass, {type(module).__name__}"
        binary = not reason
        layers.append(LayerChange(name, type(module).__name__, module.weight.numel(), binary, reason))
        if binary:
            _replace(model, module, _binary_twin(module, config))
    if not any(layer.binary for layer in layers):
        raise ModelError(
            f"no layer was made binary: of {len(layers)} convolution and linear layers, the first and the last stay "
            "real by default; name layers with BinarizeConfig(include=...)"
        )
    choose_frequencies_(model, config.method)
    return BinarizeReport(tuple(layers))


def _decider(names: list[str], config: BinarizeConfig) -> Callable[[str], str]:
    """A function from a layer's name to the reason why it stays real, empty if it does not."""

    def decide(name: str) -> str:
        if any(fnmatchcase(name, pattern) for pattern in config.exclude):
            return "excluded"
        if config.include is not None:
            return "" if any(fnmatchcase(name, pattern) for pattern in config.include) else "not included"
        if name == names[0]:
            return "the first layer"
        return "the last layer" if name == names[-1] else ""

    return decide


def _binary_twin(module: nn.Conv2d | nn.Linear, config: BinarizeConfig) -> BinaryConv2d | BinaryLinear:
    real_input = config.bits == "W1A32"
    inputs = module.in_channels if isinstance(module, nn.Conv2d) else module.in_features
    options: dict[str, Any] = {
        "bias": module.bias is not None,
        "weight_quantizer": make_weight_quantizer(config.method, config.frequency, len(module.weight)),
        "input_quantizer": nn.Identity() if real_input else make_input_quantizer(config.method, inputs),
        "device": module.weight.device,
        "dtype": module.weight.dtype,
    }
    twin: BinaryConv2d | BinaryLinear
    if isinstance(module, nn.Conv2d):
        geometry = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        options |= {name: getattr(module, name) for name in (*geometry, "padding_mode")}
        twin = BinaryConv2d(**options)
    else:
        twin = BinaryLinear(module.in_features, module.out_features, **options)
    twin.weight, twin.bias = module.weight, module.bias
    return twin.to(module.weight.device, module.weight.dtype).train(module.training)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands, also where it is shared."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
