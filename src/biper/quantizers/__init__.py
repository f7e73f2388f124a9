r"""Quantizers: functions from real tensors to two values, each with a surrogate gradient.

A quantizer is a `torch.nn.Module`. Its forward pass maps a real tensor to -1 and +1 (the sign of zero is +1), or to
another two values. Its backward pass uses the gradient of a smooth or piecewise function instead, because the true
derivative of a sign is zero almost everywhere.

| quantizer | forward | gradient used |
| --- | --- | --- |
| `PeriodicSign` | stage 1: sin(ω w); stage 2: +1 if sin(ω w) >= 0 else -1 | ω cos(ω w) |
| `TunedPeriodicSign` | the same with other waves and frequencies | wave'(ω w), and that of a learned ω |
| `StandardizedPeriodicSign` | the same with the phase φ = σ (w - mean) / std | wave'(φ), through mean and std |
| `ApproxSign` | +1 if x >= 0 else -1 | max(0, 2 - 2\|x\|) |
| `SteSign` | +1 if x >= 0 else -1 | 1 if \|x\| <= 1 else 0 |
| `XnorSign` | α sign(w), α = mean \|w\| of a channel | 1 / n + α [\|w\| <= 1] |
| `MagnitudeAwareSign` | α sign(w) | α [\|w\| <= 1] |
| `DoReFaWeight` | E sign(w), E = mean \|w\| of the layer | 1 |
| `DoReFaInput` | 1 if x >= 1/2 else 0 | 1 if 0 <= x <= 1 else 0 |
| `ErrorDecaySign` | +1 if x >= 0 else -1 | k t (1 - tanh²(t x)), t and k scheduled |
| `LibraWeight` | 2^s sign(v), v = w standardized | 2^s k t (1 - tanh²(t v)), through v |
| `RectifiedClampSign` | sign(v) | 1 if \|v\| <= Q(τ) else 0, τ scheduled, through v |
| `PowerSign` | +1 if x >= 0 else -1 | that of \|x\|^(1/o), o scheduled |
| `PowerWeight` | E sign(w) | E times that of \|w\|^(1/o), and that of E |
| `AdaBinWeight` | β + α sign(v), v = (w - β) / α | k t (1 - tanh²(t v)), and those of α and β |
| `AdaBinInput` | β + α sign(v), α and β learned | max(0, 2 - 2\|v\|), and those of α and β |
| `RSign` | +1 if x >= β of the channel else -1 | max(0, 2 - 2\|x - β\|), and that of β |

`w` is a latent weight and `x` an input of a layer. A condition in brackets is 1 where it holds and 0 elsewhere.

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
