"""The values and gradients of every quantizer against its formula in plain torch, in float64 and for any shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.formulas import approx_surrogate, plain_sign
from torch import Tensor, nn
from torch.nn import functional as F

from biper.nn import set_progress_
from biper.quantizers import (
    AdaBinInput,
    AdaBinWeight,
    DoReFaInput,
    DoReFaWeight,
    ErrorDecaySign,
    LibraWeight,
    MagnitudeAwareSign,
    PowerSign,
    PowerWeight,
    Quantizer,
    RectifiedClampSign,
    RPReLU,
    RSign,
    TunedPeriodicSign,
    XnorSign,
    sign,
)

Plain = Callable[[Tensor, nn.Module, float], Tensor]
"""The formula of a quantizer as a function of its input, of the quantizer (for its parameters) and of the progress."""


def rows(weight: Tensor) -> Tensor:
    return weight.flatten(1)


def columns(numbers: Tensor, weight: Tensor) -> Tensor:
    return numbers.reshape(-1, *[1] * (weight.dim() - 1))


def standard(weight: Tensor, epsilon: float = 0.0) -> Tensor:
    mean, variance = rows(weight).mean(1), rows(weight).var(1)
    return (weight - columns(mean, weight)) / columns(torch.sqrt(variance + epsilon), weight)


def channel_magnitude(weight: Tensor) -> Tensor:
    return columns(rows(weight).abs().mean(1), weight).detach()


def error_decay(x: Tensor, progress: float) -> Tensor:
    t = 10 ** (2 * progress - 1)
    return plain_sign(x, max(1 / t, 1) * torch.tanh(t * x))


def power(x: Tensor, progress: float) -> Tensor:
    o = 1 + 2 * progress
    chord = x * (0.1 ** (1 / o) / 0.1)
    curve = x.sign() * x.abs().clamp(min=0.1).pow(1 / o)
    inside = torch.where(x.abs() <= 0.1, chord, curve)
    return plain_sign(x, torch.where(x.abs() <= 1.5, inside, x.detach()))


def approx(x: Tensor) -> Tensor:
    return plain_sign(x, approx_surrogate(x))


def xnor(w: Tensor, _: nn.Module, __: float) -> Tensor:
    own = w / rows(w).shape[1]
    return channel_magnitude(w) * plain_sign(w, w.clamp(-1, 1)) + own - own.detach()


def libra(w: Tensor, _: nn.Module, progress: float) -> Tensor:
    v = standard(w)
    return 2 ** torch.round(torch.log2(channel_magnitude(v))) * error_decay(v, progress)


def recu(w: Tensor, _: nn.Module, progress: float) -> Tensor:
    v = standard(w, 1e-5) * 2 * math.sqrt(2)
    tau = 0.85 + 0.14 * (math.exp(progress) - 1) / (math.e - 1)
    quantile = -math.log(2 * (1 - tau)) * v.detach().abs().mean()  # of a Laplace distribution: P(|v| < q) = 2 τ - 1
    return plain_sign(v, torch.minimum(torch.maximum(v, -quantile), quantile))


def adabin_weight(w: Tensor, _: nn.Module, progress: float) -> Tensor:
    offset = columns(rows(w).mean(1), w)
    scale = columns(rows(w).std(1, correction=0), w)
    return offset + scale * error_decay((w - offset) / scale, progress)


def adabin_input(x: Tensor, quantizer: nn.Module, _: float) -> Tensor:
    return quantizer.offset + quantizer.scale * approx((x - quantizer.offset) / quantizer.scale)


def dorefa_input(x: Tensor, _: nn.Module, __: float) -> Tensor:
    bits = torch.where(x >= 0.5, 1.0, 0.0).double()
    return x.clamp(0, 1) + (bits - x.clamp(0, 1)).detach()


WEIGHTS: dict[str, tuple[Callable[[int], Quantizer], Plain]] = {
    "xnor": (lambda _: XnorSign(), xnor),
    "magnitude-aware": (
        lambda _: MagnitudeAwareSign(),
        lambda w, _, __: channel_magnitude(w) * plain_sign(w, w.clamp(-1, 1)),
    ),
    "dorefa": (lambda _: DoReFaWeight(), lambda w, _, __: plain_sign(w, w) * w.abs().mean().detach()),
    "libra": (lambda _: LibraWeight(), libra),
    "recu": (lambda _: RectifiedClampSign(), recu),
    "reste": (lambda _: PowerWeight(), lambda w, _, progress: w.abs().mean() * power(w, progress)),
    "adabin": (lambda _: AdaBinWeight(), adabin_weight),
}
INPUTS: dict[str, tuple[Callable[[int], nn.Module], Plain]] = {
    "error decay": (lambda _: ErrorDecaySign(), lambda x, _, progress: error_decay(x, progress)),
    "reste": (lambda _: PowerSign(), lambda x, _, progress: power(x, progress)),
    "dorefa": (lambda _: DoReFaInput(), dorefa_input),
    "adabin": (lambda _: AdaBinInput(), adabin_input),
    "rsign": (RSign, lambda x, quantizer, _: approx(x - quantizer.threshold.view(-1, *[1] * (x.dim() - 2)))),
    "rprelu": (
        RPReLU,
        lambda x, activation, _: (
            F.prelu(x - activation.shift_in.view(-1, 1, 1), activation.slope) + activation.shift_out.view(-1, 1, 1)
        ),
    ),
}


def check(quantizer: nn.Module, plain: Plain, x: Tensor, progress: float, gradient_factor: float = 1.0) -> None:
    """Compare the values, the gradient by the input and the gradients by the parameters."""
    set_progress_(quantizer.double(), progress)
    for parameter in quantizer.parameters():
        nn.init.normal_(parameter)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y, expected = quantizer(ours), plain(theirs, quantizer, progress)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(y)
    parameters = list(quantizer.parameters())
    actual = torch.autograd.grad(y, [ours, *parameters], upstream)
    wanted = torch.autograd.grad(expected, [theirs, *parameters], upstream)
    for got, want in zip(actual, wanted, strict=True):
        torch.testing.assert_close(got, want * gradient_factor, rtol=1e-8, atol=1e-10)
    if isinstance(quantizer, Quantizer):
        scale, offset = quantizer.scale_and_offset(x)
        torch.testing.assert_close(y, offset + scale * sign(quantizer.sign_argument(x)))
        if quantizer.gives_scaled_signs:
            size = y.detach().abs().flatten(1)
            torch.testing.assert_close(size, size[:, :1].expand_as(size))
            assert quantizer.has_own_scale or size.eq(1).all()


SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 4), st.integers(1, 4), st.integers(2, 3), st.integers(1, 3)]),
    st.tuples(st.integers(1, 5), st.integers(2, 9)),
)
SEED, PROGRESS = st.integers(0, 2**31), st.floats(0, 1)


@pytest.mark.parametrize("name", WEIGHTS)
@given(seed=SEED, shape=SHAPES, progress=PROGRESS, spread=st.sampled_from([0.1, 1.0]))
@settings(max_examples=12)
def test_weights(name: str, seed: int, shape: tuple[int, ...], progress: float, spread: float) -> None:
    assume(name != "libra" or math.prod(shape[1:]) > 2)  # the log2 of two standardized weights' size is -1/2: a tie
    torch.manual_seed(seed)
    make, plain = WEIGHTS[name]
    weight = torch.randn(shape, dtype=torch.float64) * spread + 0.02
    if name == "dorefa":  # its gradient is 1, while the plain formula multiplies it by the scale
        check(make(1), plain, weight, progress, 1 / weight.abs().mean().item())
    else:
        check(make(1), plain, weight, progress)


@pytest.mark.parametrize("name", INPUTS)
@given(seed=SEED, n=st.integers(1, 3), channels=st.integers(1, 4), size=st.integers(3, 6), progress=PROGRESS)
@settings(max_examples=12)
def test_inputs(name: str, seed: int, n: int, channels: int, size: int, progress: float) -> None:
    torch.manual_seed(seed)
    make, plain = INPUTS[name]
    x = torch.randn(n, channels, size, size, dtype=torch.float64)
    x[:, :, 0, 0] = 0.3  # inside the windows around zero
    check(make(channels), plain, x, progress)


def triangle(phase: Tensor) -> Tensor:
    """Compute the triangle wave of period 2π and height 1 piece by piece; it is zero and rises at zero."""
    turns = torch.remainder(phase / (2 * math.pi) + 0.25, 1)
    return torch.where(turns < 0.5, 4 * turns - 1, 3 - 4 * turns)


@pytest.mark.parametrize("wave", ["sine", "triangle"])
@pytest.mark.parametrize("stage", [1, 2])
@given(seed=SEED, shape=SHAPES, learned=st.sampled_from(["no", "layer", "channel"]), progress=PROGRESS)
@settings(max_examples=12)
def test_tuned_periodic(
    wave: str, stage: int, seed: int, shape: tuple[int, ...], learned: str, progress: float
) -> None:
    torch.manual_seed(seed)
    count = {"no": 0, "layer": 1, "channel": shape[0]}[learned]
    quantizer = TunedPeriodicSign(5.0, stage, wave=wave, frequency_end=40.0, learned_frequencies=count).double()
    set_progress_(quantizer, progress)
    frequency = 5.0 * 8.0 ** (progress if stage == 1 else 0)
    weight = torch.randn(shape, dtype=torch.float64)
    if count:
        nn.init.uniform_(quantizer.log_gain, -1, 1)
    ours, theirs = (weight.clone().requires_grad_() for _ in range(2))
    gains = [quantizer.log_gain] if count else []
    plain_gain = quantizer.log_gain.detach().clone().requires_grad_() if count else torch.zeros(1).double()
    phase = frequency * plain_gain.exp().view(-1, *[1] * (len(shape) - 1)) * theirs
    real = torch.sin(phase) if wave == "sine" else triangle(phase)
    expected = plain_sign(real, real) if stage == 2 else real
    y = quantizer(ours)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(y)
    actual = torch.autograd.grad(y, [ours, *gains], upstream)
    wanted = torch.autograd.grad(expected, [theirs, *([plain_gain] if count else [])], upstream)
    torch.testing.assert_close(actual[0], wanted[0], rtol=1e-8, atol=1e-8)
    if count:
        torch.testing.assert_close(actual[1], wanted[1] / math.sqrt(weight.numel() / count), rtol=1e-8, atol=1e-8)


def test_a_sharpened_wave_goes_from_the_sine_to_its_signs_with_the_sines_gradient() -> None:
    quantizer = TunedPeriodicSign(20.0, sharpen_from=0.5).double()
    weight = torch.linspace(-1, 1, 4001, dtype=torch.float64, requires_grad=True)
    sine = torch.sin(20 * weight.detach())
    for fraction, k in ((0.2, 0.0), (0.5, 0.0), (0.75, 5.0), (1.0, 10.0)):
        set_progress_(quantizer, fraction)
        y = quantizer(weight)
        torch.testing.assert_close(y, torch.tanh(k * sine) / math.tanh(k) if k else sine)
        (gradient,) = torch.autograd.grad(y.sum(), weight)
        torch.testing.assert_close(gradient, 20 * torch.cos(20 * weight.detach()))
    assert (y - sign(sine)).abs().mean() < 0.08
