"""Make the quantizers and the activation of a method from its settings."""

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
    """Make the weight quantizer of one layer.

    Args:
        method: the method with its options.
        frequency: ω, in radians per unit of weight, for methods that have a frequency.
        out_channels: the number of output channels of the layer, for quantizers that learn one number for each.

    Returns:
        A new module.
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
    """Make the input quantizer of one layer.

    Args:
        method: the method with its options.
        in_channels: the number of channels of the layer's input, for quantizers that learn one number for each.

    Returns:
        A new module.
    """
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
    """Make the activation that a method prescribes.

    Args:
        method: the method with its options.
        channels: the number of channels of the activation's input.

    Returns:
        A new module, or None if the method leaves the network's own activation.
    """
    return RPReLU(channels) if isinstance(method, ReActNetMethod) else None


def choose_frequencies_(model: nn.Module, method: Method) -> nn.Module:
    """Set ω of each layer so that its weights have the quantization error ``target_error`` of the method, in place.

    The closed form for Laplace weights gives ω, with ``mean |w|`` of the layer as the diversity. Without a
    ``target_error``, and for methods other than `BiperMethod`, nothing changes.

    Args:
        model: a model whose quantizers `make_weight_quantizer` made.
        method: the method with its options.

    Returns:
        The same model.

    Raises:
        ModelError: all weights of a layer are zero.
    """
    if isinstance(method, BiperMethod) and method.target_error is not None:
        for weight, quantizer in periodic_weights(model).values():
            if isinstance(quantizer, TunedPeriodicSign):
                diversity = weight.detach().abs().mean().item()
                quantizer.set_start_frequency(frequency_for_error(method.target_error, diversity))
    return model
