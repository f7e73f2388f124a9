"""Replace convolutions and linear layers of any torch model by binary ones, in place."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from biper.binarize.policy import BinarizeConfig, reason_to_stay_real
from biper.binarize.report import BinarizeReport, LayerChange
from biper.errors import ModelError
from biper.methods.build import choose_frequencies_, make_input_quantizer, make_weight_quantizer
from biper.nn import BINARY_LAYERS, BinaryConv2d, BinaryLinear


def binarize_(model: nn.Module, config: BinarizeConfig | None = None) -> BinarizeReport:
    """Replace convolutions and linear layers of a model by `BinaryConv2d` and `BinaryLinear`, in place.

    The model keeps its weights and biases: the old weights (the same parameters) become the latent weights. A layer
    that is used in several places stays shared. The new layers are in stage ``"relaxed"``; see `set_stage_`.

    Args:
        model: any module that contains `torch.nn.Conv2d` or `torch.nn.Linear` layers.
        config: which layers become binary and by which method; by default, all but the first and the last layer.

    Returns:
        A report on each convolution and linear layer, which can be printed.

    Raises:
        ModelError: the model itself is a single layer (which cannot be replaced in place), it has no layer to make
            binary, or a pattern matches no layer.
    """
    config = config or BinarizeConfig()
    if isinstance(model, nn.Conv2d | nn.Linear):
        raise ModelError(
            f"binarize_ expected a model that contains layers and got a single {type(model).__name__}: "
            "create a BinaryConv2d or BinaryLinear, or wrap the layer in torch.nn.Sequential"
        )
    candidates = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    for pattern in (*(config.include or ()), *config.exclude):
        if not any(fnmatchcase(name, pattern) for name in candidates):
            raise ModelError(
                f"pattern {pattern!r} matches no convolution or linear layer; the model has {list(candidates)}"
            )
    layers = []
    for name, module in candidates.items():
        reason = reason_to_stay_real(name, list(candidates), config)
        if reason is None and type(module) not in (nn.Conv2d, nn.Linear):
            reason = "already binary" if isinstance(module, BINARY_LAYERS) else f"a subclass, {type(module).__name__}"
        binary = reason is None
        layers.append(LayerChange(name, type(module).__name__, module.weight.numel(), binary, reason or ""))
        if binary:
            _replace(model, module, _binary_twin(module, config))
    if not any(layer.binary for layer in layers):
        raise ModelError(
            f"no layer was made binary: of {len(layers)} convolution and linear layers, the first and the last stay "
            "real by default; name layers with BinarizeConfig(include=...)"
        )
    choose_frequencies_(model, config.method)
    return BinarizeReport(tuple(layers))


def _binary_twin(module: nn.Conv2d | nn.Linear, config: BinarizeConfig) -> BinaryConv2d | BinaryLinear:
    """Make the binary layer that replaces ``module`` and takes over its parameters, mode, device and dtype."""
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
    """Replace ``old`` by ``new`` in every module that has it as a child."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
