"""`biper.binarize_`: the convolutions and linear layers of any torch model become binary, in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from biper.binarize.check import Example, arguments_of
from biper.binarize.dataflow import Flow, Step
from biper.binarize.policy import (
    UNTOUCHED,
    BinarizeConfig,
    base_of,
    computes_as_base,
    input_channels,
    reason_real,
    reason_untouchable,
)
from biper.binarize.record import record
from biper.binarize.report import BinarizeReport, LayerChange
from biper.binarize.run_once import run_once
from biper.binarize.signed_inputs import make_inputs_signed_
from biper.binarize.signs import become_, signed_activation
from biper.errors import ModelError
from biper.methods.build import choose_frequencies_, make_input_quantizer, make_weight_quantizer
from biper.methods.weights import BiperWeights
from biper.nn import BINARY_LAYERS, keep_signs_, kept_signs
from biper.nn.convert import make_binary_
from biper.nn.latent import LatentWeightLayer, scale_to_weights_

CANDIDATES = (nn.Conv1d, nn.Conv2d, nn.Linear)


def binarize_(
    model: nn.Module, config: BinarizeConfig | None = None, *, example: Example | None = None
) -> BinarizeReport:
    """Make the convolutions and linear layers of a model binary, in place, such that no layer becomes a constant.

    A sign carries information only if its argument takes both signs. Therefore the model is run once on the example,
    and the data is followed to the input of each binary layer. Where an activation that cannot be negative stands in
    front of it, the activation is replaced (``config.activation``); where that is not possible, the layer gets a
    learned threshold in front of its sign (``config.one_signed``). The first and the last layer in order of execution
    and the other kinds of layers in ``config.keep_real`` stay real.

    Weights, biases, hooks, ``requires_grad``, dtypes, devices, tied weights and the training mode are kept: a layer
    stays the same object and changes its type; its weight becomes the latent weight. The new layers are in stage
    ``"relaxed"``; see `biper.set_stage_`. Where the weights are trained already, ``config.pretrained`` sets scales and
    frequencies from them.

    Args:
        model: any module with `torch.nn.Conv1d`, `torch.nn.Conv2d` or `torch.nn.Linear` layers.
        config: which layers, and into what; see `BinarizeConfig`.
        example: a batch as the model takes it: a tensor, or a tuple of the positional arguments. Real data are best:
            thresholds start at their means. Without an example the model is tried on random images; the report says so.

    Returns:
        What became of each layer, and why; print it.

    Raises:
        ModelError: the model is a single layer (it cannot be replaced in place), it does not run on the example, no
            layer can become binary, or a pattern matches no layer.
    """
    config = config or BinarizeConfig()
    if isinstance(model, CANDIDATES):
        raise ModelError(
            f"binarize_ replaces layers inside a model and got a single {type(model).__name__}: "
            "make a BinaryConv2d or BinaryLinear, or wrap it in torch.nn.Sequential"
        )
    if example is not None and _is_lazy(model):
        run_once(model, arguments_of(example))  # gives lazy layers their shapes
    candidates = {name: module for name, module in model.named_modules() if isinstance(module, CANDIDATES)}
    for pattern in (*(config.include or ()), *config.exclude):
        if not any(fnmatchcase(name, pattern) for name in candidates):
            raise ModelError(
                f"pattern {pattern!r} matches no convolution or linear layer; there are {list(candidates)}"
            )
    inputs, flow, notes = _follow(model, candidates, example)
    order = _order(candidates, flow)
    layers: dict[str, LayerChange] = {}
    for number, name in enumerate(order):
        module = candidates[name]
        reason = reason_untouchable(module, config) or reason_real(name, module, config, flow, order)
        use = None if flow is None else flow.uses.get(name)
        layers[name] = LayerChange(
            name=name,
            kind=type(module).__name__,
            weights=_weights_of(module),
            binary=not reason,
            reason=reason,
            order=number if flow is None or use is not None else None,
            multiply_accumulates=None if use is None else use.multiply_accumulates,
        )
    chosen = [name for name in order if layers[name].binary]
    if not chosen:
        raise ModelError(_nothing_to_do(layers, _left_alone(model)))
    replaced = _replace_activations(model, flow, chosen, config)
    for name in chosen:
        _make_binary(candidates[name], config)
        layers[name] = replace(layers[name], replaced=tuple(replaced.get(name, ())))
    _keep_off_the_fast_path_(model)
    if inputs is not None and config.bits == "W1A1":
        make_inputs_signed_(model, inputs, layers, config)
    choose_frequencies_(model, config.method)
    if config.pretrained:
        _start_from_weights(candidates, layers, config)
    return BinarizeReport((*layers.values(), *_left_alone(model)), tuple(notes))


def _follow(
    model: nn.Module, candidates: Mapping[str, nn.Module], example: Example | None
) -> tuple[tuple[Any, ...] | None, Flow | None, list[str]]:
    """The arguments that the model was run on, the recorded data flow, and notes for the report."""
    if example is not None:
        arguments = arguments_of(example)
        return arguments, record(model, candidates, arguments), []
    for guess in () if _is_lazy(model) else _guesses(candidates):
        try:
            flow = record(model, candidates, (guess,))
        except ModelError:
            continue
        shape = " x ".join(map(str, guess.shape))
        note = (
            f"No example was given: the data flow was followed with random numbers of shape {shape}. Give "
            "`example=images` so that shares of signs and thresholds are those of your data."
        )
        return (guess,), flow, [note]
    return (
        None,
        None,
        [
            "No example was given, and the model does not run on random images: it was not checked whether each "
            "binary layer sees both signs. Give `example=images`."
        ],
    )


def _is_lazy(model: nn.Module) -> bool:
    """Whether the model has layers whose shapes are fixed by the first input."""
    return any(isinstance(m, LazyModuleMixin) and m.has_uninitialized_params() for m in model.modules())


def _guesses(candidates: Mapping[str, nn.Module]) -> Iterable[Tensor]:
    """Random inputs that the model may take, by its layers in order of definition."""
    generator = torch.Generator().manual_seed(0)
    for layer in candidates.values():
        weight: Any = layer.weight
        channels = input_channels(layer)
        shapes: list[tuple[int, ...]]
        if isinstance(layer, nn.Conv2d):
            shapes = [(2, channels, size, size) for size in (32, 64, 224)]
        elif isinstance(layer, nn.Conv1d):
            shapes = [(2, channels, size) for size in (64, 512)]
        else:
            shapes = [(2, channels), (2, 4, channels)]
        for shape in shapes:
            yield torch.randn(shape, generator=generator).to(weight.device, weight.dtype)


def _order(candidates: Mapping[str, nn.Module], flow: Flow | None) -> list[str]:
    """Names of the candidate layers in order of execution; those that did not run last."""
    ran = [] if flow is None else list(flow.uses)
    return [*ran, *(name for name in candidates if name not in ran)]


def _weights_of(module: nn.Module) -> int:
    try:
        weight: Any = module.weight
        return int(weight.numel())
    except (AttributeError, ValueError):  # a lazy layer has no weight yet
        return 0


def _nothing_to_do(layers: Mapping[str, LayerChange], others: Iterable[LayerChange]) -> str:
    reasons = list(dict.fromkeys(layer.reason for layer in layers.values()))
    kinds = list(dict.fromkeys(f"{other.kind} is {other.reason}" for other in others))
    why = f": {'; '.join([*reasons, *kinds])}" if reasons or kinds else ""
    return (
        f"no layer was made binary, of {len(layers)} convolution and linear layers{why}; name layers with "
        "BinarizeConfig(include=...), or change keep_real"
    )


def _take_for_base_(layer: nn.Module) -> None:
    """Turn a layer of a subclass with a forward pass of its own into one of its base, with weight and bias alone."""
    base: Any = base_of(type(layer))
    plain = base(1, 1) if base is nn.Linear else base(1, 1, 1)
    for name in set(vars(layer)) - set(vars(plain)):
        del vars(layer)[name]
    for held in (layer._parameters, layer._buffers, layer._modules):
        for name in set(held) - {"weight", "bias"}:
            del held[name]
    layer.__class__ = base


def _make_binary(layer: nn.Module, config: BinarizeConfig) -> None:
    if not isinstance(layer, LatentWeightLayer) and not computes_as_base(type(layer)):
        _take_for_base_(layer)
    real_input = config.bits == "W1A32"
    channels = input_channels(layer)
    weights: Any = make_weight_quantizer(config.method, config.frequency, len(layer.weight))  # type: ignore[arg-type]
    make_binary_(layer, weights, nn.Identity() if real_input else make_input_quantizer(config.method, channels))


def _start_from_weights(
    candidates: Mapping[str, nn.Module], layers: dict[str, LayerChange], config: BinarizeConfig
) -> None:
    """Set the scale and the frequency of each new binary layer from its trained weights, and note the signs kept."""
    weights = config.method.weights
    sets_frequency = not isinstance(weights, BiperWeights) or (
        weights.target_error is None and weights.phase_deviation is None
    )
    for name, change in layers.items():
        layer = candidates[name]
        if change.binary and isinstance(layer, LatentWeightLayer):
            scale_to_weights_(layer)
            (share,) = (keep_signs_ if sets_frequency else kept_signs)(layer).values()
            frequency = getattr(layer.weight_quantizer, "frequency", None)
            layers[name] = replace(change, kept_signs=share, frequency=frequency)


def _replace_activations(
    model: nn.Module, flow: Flow | None, chosen: Iterable[str], config: BinarizeConfig
) -> dict[str, list[str]]:
    """Replace the activation modules that keep an input of the chosen layers from being negative.

    Returns:
        For each layer, what was replaced in front of it.
    """
    kind = config.signed_activation
    if flow is None or kind == "keep" or config.bits != "W1A1":
        return {}
    modules = dict(model.named_modules())
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for step in flow.steps:
        shapes.setdefault(step.module, set()).add(step.shape)
    done: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for name in chosen:
        for step in flow.culprits(name):
            if step.module not in done and _is_replaceable(step, flow, modules):
                old = modules[step.module]
                was = type(old).__name__
                become_(old, signed_activation(kind, old, shapes[step.module]))
                done[step.module] = f"{step.module}: {was} -> {type(old).__name__}"
            if step.module in done and done[step.module] not in found.get(name, ()):
                found.setdefault(name, []).append(done[step.module])
    return found


def _is_replaceable(step: Step, flow: Flow, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a step is all that its module does, and the module has no weights."""
    module = modules[step.module]
    plain = not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    return bool(step.module) and step.module in flow.single_step_modules and plain


def _keep_off_the_fast_path_(model: nn.Module) -> None:
    """Make `torch.nn.TransformerEncoderLayer` call its layers: in evaluation it would use their weights directly."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and any(
            isinstance(m, BINARY_LAYERS) for m in module.modules()
        ):
            module.activation_relu_or_gelu = 0


def _left_alone(model: nn.Module) -> Iterable[LayerChange]:
    for name, module in model.named_modules():
        reason = next((why for kind, why in UNTOUCHED.items() if isinstance(module, kind)), "")
        if reason:
            weights = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            yield LayerChange(name, type(module).__name__, weights, False, f"left alone: {reason}")
