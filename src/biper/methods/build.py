"""Make the quantizers and the activation of a method from its settings."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from biper.methods.closed_form import frequency_for_error
from biper.methods.inputs import (
    AdaBinInputs,
    ApproxSignInputs,
    DoReFaInputs,
    HardtanhActivation,
    IrNetInputs,
    NetworkActivation,
    PReLUActivation,
    ReSteInputs,
    RPReLUActivation,
    RSignInputs,
    SteInputs,
)
from biper.methods.settings import Method
from biper.methods.weights import (
    AdaBinWeights,
    BiperWeights,
    BiRealWeights,
    DoReFaWeights,
    IrNetWeights,
    ReCuWeights,
    ReSteWeights,
    SteWeights,
    XnorNetWeights,
)
from biper.nn import periodic_weights
from biper.quantizers import (
    AdaBinInput,
    AdaBinWeight,
    ApproxSign,
    DoReFaInput,
    DoReFaWeight,
    ErrorDecaySign,
    LibraWeight,
    MagnitudeAwareSign,
    PeriodicSign,
    PowerSign,
    PowerWeight,
    Quantizer,
    RectifiedClampSign,
    RPReLU,
    RSign,
    StandardizedPeriodicSign,
    SteSign,
    TunedPeriodicSign,
    XnorSign,
)


def make_weight_quantizer(method: Method, frequency: float, out_channels: int) -> Quantizer:
    """Make the weight quantizer of one layer.

    Args:
        method: the method with its options.
        frequency: ω, in radians per unit of weight, for methods that have a frequency.
        out_channels: the number of output channels of the layer, for quantizers that learn one number for each.

    Returns:
        A new module.
    """
    match method.weights:
        case BiperWeights() as weights:
            return _make_periodic(weights, frequency, out_channels)
        case SteWeights():
            return SteSign()
        case XnorNetWeights():
            return XnorSign()
        case DoReFaWeights():
            return DoReFaWeight()
        case BiRealWeights():
            return MagnitudeAwareSign()
        case IrNetWeights() as weights:
            return LibraWeight(weights.t_start, weights.t_end)
        case ReCuWeights() as weights:
            return RectifiedClampSign(weights.tau_start, weights.tau_end)
        case ReSteWeights() as weights:
            return PowerWeight(weights.order_end, weights.window, weights.flat)
        case AdaBinWeights() as weights:
            return AdaBinWeight(weights.t_start, weights.t_end)
        case unknown:
            assert_never(unknown)  # a settings class without a case here would otherwise train as BiPer


def _make_periodic(weights: BiperWeights, frequency: float, out_channels: int) -> PeriodicSign:
    """Make the quantizer of BiPer that has the options; the plain one where all of them are as published."""
    if not weights.is_tuned:
        return PeriodicSign(frequency)
    learned = {"no": 0, "layer": 1, "channel": out_channels}[weights.learn_frequency]
    if weights.phase_deviation is None:
        return TunedPeriodicSign(
            frequency,
            wave=weights.wave,
            frequency_end=weights.frequency_end,
            sharpen_from=weights.sharpen_from,
            learned_frequencies=learned,
        )
    return StandardizedPeriodicSign(
        weights.phase_deviation,
        mean=weights.phase_mean,
        group=weights.phase_group,
        wave=weights.wave,
        phase_deviation_end=weights.phase_deviation_end,
        sharpen_from=weights.sharpen_from,
        learned_deviations=learned,
    )


def make_input_quantizer(method: Method, in_channels: int) -> Quantizer:
    """Make the input quantizer of one layer.

    Args:
        method: the method with its options.
        in_channels: the number of channels of the layer's input, for quantizers that learn one number for each.

    Returns:
        A new module.
    """
    match method.inputs:
        case ApproxSignInputs() as inputs:
            return ApproxSign(normalize=inputs.normalize)
        case SteInputs():
            return SteSign()
        case DoReFaInputs():
            return DoReFaInput()
        case IrNetInputs() as inputs:
            return ErrorDecaySign(inputs.t_start, inputs.t_end)
        case ReSteInputs() as inputs:
            return PowerSign(inputs.order_end, inputs.window, inputs.flat)
        case AdaBinInputs():
            return AdaBinInput()
        case RSignInputs():
            return RSign(in_channels)
        case unknown:
            assert_never(unknown)


def make_activation(method: Method, channels: int) -> nn.Module | None:
    """Make the activation that a method prescribes.

    Args:
        method: the method with its options.
        channels: the number of channels of the activation's input.

    Returns:
        A new module, or None if the method leaves the network's own activation.
    """
    match method.activation:
        case NetworkActivation():
            return None
        case HardtanhActivation():
            return nn.Hardtanh(inplace=True)
        case RPReLUActivation():
            return RPReLU(channels)
        case PReLUActivation():
            return nn.PReLU(channels)
        case unknown:
            assert_never(unknown)


def choose_frequencies_(model: nn.Module, method: Method) -> nn.Module:
    """Set ω of each layer so that its weights have the quantization error ``target_error`` of the method, in place.

    The closed form for Laplace weights gives ω, with ``mean |w|`` of the layer as the diversity. Without a
    ``target_error``, and for weights other than `BiperWeights`, nothing changes.

    Args:
        model: a model whose quantizers `make_weight_quantizer` made.
        method: the method with its options.

    Returns:
        The same model.

    Raises:
        ModelError: all weights of a layer are zero.
    """
    weights = method.weights
    if isinstance(weights, BiperWeights) and weights.target_error is not None:
        for weight, quantizer in periodic_weights(model).values():
            if isinstance(quantizer, TunedPeriodicSign):
                diversity = weight.detach().abs().mean().item()
                quantizer.set_start_frequency(frequency_for_error(weights.target_error, diversity))
    return model
