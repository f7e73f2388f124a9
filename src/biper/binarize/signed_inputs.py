"""Layers whose input has one sign after all: they get a threshold or a norm in front of their sign, or stay real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from biper.binarize.check import check_binary_inputs, has_one_sign
from biper.binarize.policy import BinarizeConfig, input_channels
from biper.binarize.record import record
from biper.binarize.report import LayerChange
from biper.binarize.signs import Shifted, calibrating, make_shift
from biper.nn.convert import make_real_
from biper.quantizers import PeriodicSign, Stage


def make_inputs_signed_(
    model: nn.Module, inputs: tuple[Any, ...], layers: dict[str, LayerChange], config: BinarizeConfig
) -> None:
    """Measure the signs at each binary layer's input, and change the layers whose input has one sign.

    Signs are measured with weights in both stages, because the inputs of one are not those of the other. A layer that
    gets a threshold changes the inputs of later layers, so that they are measured again until no new one is found.

    Args:
        model: a model with new binary layers; it is changed in place.
        inputs: its positional arguments.
        layers: what became of each layer, by name; entries are replaced.
        config: says what such a layer gets.
    """
    # From the present name of each new binary layer, which a shift makes longer, to the name that it had.
    names = {name: name for name, change in layers.items() if change.binary}
    while True:
        worst = {name: share for name, share in _worst_shares(model, inputs).items() if name in names}
        found = [name for name, share in worst.items() if has_one_sign(share) and not layers[names[name]].shift]
        if not found or config.one_signed == "real":
            break
        _add_shifts(model, inputs, found, config)
        for name in found:
            names[f"{name}.layer"] = names.pop(name)
            layers[name] = replace(layers[name], shift=config.one_signed)
    for now, share in worst.items():
        if has_one_sign(share):
            name, layer = names[now], model.get_submodule(now)
            make_real_(layer)
            if now != name:
                _put(model, model.get_submodule(name), layer)
            why = f"its input has one sign: {share:.1%} of it is +1"
            layers[name] = replace(layers[name], binary=False, reason=why, shift="")
    for now, share in check_binary_inputs(model, inputs).items():
        if now in names:
            layers[names[now]] = replace(layers[names[now]], positive_share=share)


def _worst_shares(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, float]:
    """The share of +1 at the input of each binary layer, in the stage in which it is further from one half."""
    shares = check_binary_inputs(model, inputs)
    with _binary_weights(model):
        others = check_binary_inputs(model, inputs)
    return {
        name: max(share, others.get(name, share), key=lambda each: abs(each - 0.5)) for name, share in shares.items()
    }


@contextmanager
def _binary_weights(model: nn.Module) -> Iterator[None]:
    """While the context lasts, each periodic quantizer is in stage ``"binary"``."""
    stages = [(module, module.stage) for module in model.modules() if isinstance(module, PeriodicSign)]
    for module, _ in stages:
        module.stage = Stage.BINARY
    try:
        yield
    finally:
        for module, stage in stages:
            module.stage = stage


def _add_shifts(model: nn.Module, inputs: tuple[Any, ...], names: list[str], config: BinarizeConfig) -> None:
    """Put a threshold or a norm in front of layers, and set it from their inputs."""
    assert config.one_signed != "real"
    modules = {name: model.get_submodule(name) for name in names}
    uses = record(model, modules, inputs).uses
    shifts = []
    for name, layer in modules.items():
        shift = make_shift(config.one_signed, layer, len(uses[name].input_shape), input_channels(layer))
        _put(model, layer, Shifted(shift, layer))
        shifts.append(shift)
    with calibrating(shifts):
        check_binary_inputs(model, inputs)


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands, also where it is shared."""
    for parent in list(model.modules()):
        if parent is new:
            continue
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = new
