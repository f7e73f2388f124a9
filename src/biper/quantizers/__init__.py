"""Quantizers: functions from real tensors to two values, each with a surrogate gradient.

A quantizer is a `torch.nn.Module`. Its forward pass maps a real tensor to -1 and +1 (the sign of zero is +1), or to
another two values. Its backward pass uses the gradient of a smooth or piecewise function instead, because the true
derivative of a sign is zero almost everywhere.

The docstring of each class has its formula, its gradient and its source. `docs/guides/methods.md` has all of them in
one table.

Every quantizer keeps the shape, device and memory format of its input. `biper.methods.build` says which of them make up
a published method.
"""

from biper.quantizers.adabin import AdaBinInput, AdaBinWeight
from biper.quantizers.base import Quantizer, ShiftedSign, SlopedSign, sign, sign_with_slope
from biper.quantizers.dorefa import DoReFaInput, DoReFaWeight
from biper.quantizers.ir_net import ErrorDecaySign, LibraWeight
from biper.quantizers.magnitude import MagnitudeAwareSign, XnorSign
from biper.quantizers.per_sample import VARIANCE_EPSILON, per_sample_statistics, sample_rows
from biper.quantizers.periodic import DEFAULT_FREQUENCY, PeriodicSign, Stage
from biper.quantizers.reactnet import RPReLU, RSign
from biper.quantizers.recu import RectifiedClampSign
from biper.quantizers.reste import PowerSign, PowerWeight
from biper.quantizers.standardized_periodic import StandardizedPeriodicSign
from biper.quantizers.tuned_periodic import TunedPeriodicSign
from biper.quantizers.windowed import ApproxSign, SteSign

__all__ = [
    "DEFAULT_FREQUENCY",
    "VARIANCE_EPSILON",
    "AdaBinInput",
    "AdaBinWeight",
    "ApproxSign",
    "DoReFaInput",
    "DoReFaWeight",
    "ErrorDecaySign",
    "LibraWeight",
    "MagnitudeAwareSign",
    "PeriodicSign",
    "PowerSign",
    "PowerWeight",
    "Quantizer",
    "RPReLU",
    "RSign",
    "RectifiedClampSign",
    "ShiftedSign",
    "SlopedSign",
    "Stage",
    "StandardizedPeriodicSign",
    "SteSign",
    "TunedPeriodicSign",
    "XnorSign",
    "per_sample_statistics",
    "sample_rows",
    "sign",
    "sign_with_slope",
]
