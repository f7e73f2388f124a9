"""The quantizers and activations of a method: from its settings to modules."""

from __future__ import annotations

from torch import nn

from biper.methods.closed_form import frequency_for_error
from biper.methods.settings import (
    AdaBinMethod,
    BiperMethod,
    BiRealMethod,
    BnnMethod,
    DoReFaMethod,
    IrNetMethod,
    Method,
    ReActNetMethod,
    ReCuMethod,
    ReSteMethod,
    XnorNetMethod,
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
    SteSign,
    TunedPeriodicSign,
    XnorSign,
)


def make_weight_quantizer(method: Method, frequency: float, out_channels: int) -> Quantizer:
    """A weight quantizer for one layer.

    Args:
        method: which, and its options.
        frequency: ω where the method has one, in radians per unit of weight.
        out_channels: of the layer, for what is learned for each.
    """
    match method:
        case BiperMethod():
            if not method.is_tuned:
                return PeriodicSign(frequency)
            return TunedPeriodicSign(
                frequency,
                wave=method.wave,
                frequency_end=method.frequency_end,
                sharpen_from=method.sharpen_from,
                learned_frequencies={"no": 0, "layer": 1, "channel": out_channels}[method.learn_frequency],
            )
        case BnnMethod():
            return SteSign()
        case XnorNetMethod():
            return XnorSign()
        case DoReFaMethod():
            return DoReFaWeight()
        case BiRealMethod() | ReActNetMethod():
            return MagnitudeAwareSign()
        case IrNetMethod():
            return LibraWeight(method.t_start, method.t_end)
        case ReCuMethod():
            return RectifiedClampSign(method.tau_start, method.tau_end)
        case ReSteMethod():
            return PowerWeight(method.order_end, method.window, method.flat)
        case AdaBinMethod():
            return AdaBinWeight(method.t_start, method.t_end)


def make_input_quantizer(method: Method, in_channels: int) -> Quantizer:
    """An input quantizer for one layer, whose input has this many channels."""
    match method:
        case BiperMethod() | ReCuMethod():
            return ApproxSign(normalize=True)
        case BnnMethod() | XnorNetMethod():
            return SteSign()
        case DoReFaMethod():
            return DoReFaInput()
        case BiRealMethod():
            return ApproxSign()
        case IrNetMethod():
            return ErrorDecaySign(method.t_start, method.t_end)
        case ReSteMethod():
            return PowerSign(method.order_end, method.window, method.flat)
        case AdaBinMethod():
            return AdaBinInput()
        case ReActNetMethod():
            return RSign(in_channels)


def make_activation(method: Method, channels: int) -> nn.Module | None:
    """The activation that a method brings along, for this many channels; None where the network's own stays."""
    return RPReLU(channels) if isinstance(method, ReActNetMethod) else None


def choose_frequencies_(model: nn.Module, method: Method) -> nn.Module:
    """Set each layer's ω by its weights and the method's ``target_error``, in place; without one nothing happens.

    The diversity of a layer's weights is their ``mean |w|``, as of Laplace weights.

    Returns:
        The same model.
    """
    if isinstance(method, BiperMethod) and method.target_error is not None:
        for weight, quantizer in periodic_weights(model).values():
            if isinstance(quantizer, TunedPeriodicSign):
                quantizer.start_at(frequency_for_error(method.target_error, weight.detach().abs().mean().item()))
    return model
