"""The native training kernels against torch in float64, and with other numbers of threads and default dtypes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from biper import BinaryConv2d, _native, load_recipe, set_stage_, train
from biper.data.transforms import normalize, random_crop_and_flip
from biper.errors import ModelError
from biper.fast import convolution as convolutions_of_bits
from biper.fast.availability import unavailable_reason
from biper.fast.signs import signs
from biper.fast.weights import fits_weights
from biper.methods.build import make_weight_quantizer
from biper.methods.presets import METHODS
from biper.methods.settings import read_method
from biper.models import create_model
from biper.nn import branch, describe_fast_path, norm_activation
from biper.nn.norm import bounds_of
from biper.nn.penalty import periodic_penalty
from biper.quantizers import (
    AdaBinInput,
    ApproxSign,
    DoReFaInput,
    ErrorDecaySign,
    PowerSign,
    Quantizer,
    RPReLU,
    RSign,
    StandardizedPeriodicSign,
    SteSign,
)

slow = pytest.mark.slow

pytestmark = pytest.mark.skipif(
    unavailable_reason(torch.float32) is not None, reason=f"no kernels here: {unavailable_reason(torch.float32)}"
)

KERNELS = ["none"] if unavailable_reason(torch.float32) else _native.training_kernels()

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(scope="module", autouse=True, params=[KERNELS[0], *(pytest.param(k, marks=slow) for k in KERNELS[1:])])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """The best kernels of this processor, and in the slow tier the others that it runs."""
    name: str = request.param
    _native.use_training_kernels(name)
    yield name
    _native.use_training_kernels(KERNELS[0])


def usable_dtypes() -> list[torch.dtype]:
    return [dtype for dtype in DTYPES if unavailable_reason(dtype) is None]


def skip_without(dtype: torch.dtype) -> None:
    reason = unavailable_reason(dtype)
    if reason is not None:
        pytest.skip(reason)


@contextmanager
def without_kernels() -> Iterator[None]:
    os.environ["BIPER_KERNELS"] = "0"
    try:
        yield
    finally:
        del os.environ["BIPER_KERNELS"]


def error(got: Tensor, expected: Tensor, summands: int = 1) -> float:
    """The largest difference in units of the root mean square of the expected numbers, or of random sums."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).abs().max() / expected.square().mean().sqrt().clamp_min(summands**0.5))


def quantizers_of_biper(draw: st.DrawFn, channels: int) -> Quantizer:
    return draw(st.sampled_from([ApproxSign, SteSign]))(normalize=draw(st.booleans()))


def quantizers_of_other_methods(draw: st.DrawFn, channels: int) -> Quantizer:
    """An input quantizer of another method, with parameters as if they had been trained."""
    kinds = (ErrorDecaySign(1.0, 2.0), PowerSign(), DoReFaInput(), AdaBinInput(), RSign(channels))
    quantizer = draw(st.sampled_from(kinds))
    quantizer.set_progress(0.5)
    for parameter in quantizer.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return quantizer


@st.composite
def convolutions(
    draw: st.DrawFn, quantizers: Callable[[st.DrawFn, int], Quantizer] = quantizers_of_biper
) -> tuple[BinaryConv2d, Tensor]:
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (3, 1), (2, 4)]))
    dilation = draw(st.integers(1, 2))
    padding = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    size = [draw(st.integers(max(1, dilation * (kernel[i] - 1) + 1 - 2 * padding[i]), 20)) for i in range(2)]
    torch.manual_seed(draw(st.integers(0, 2**32)))
    channels = 16 * draw(st.integers(1, 5))
    layer = BinaryConv2d(
        channels,
        16 * draw(st.integers(1, 6)),
        kernel,
        stride=draw(st.integers(1, 3)),
        padding=padding,
        dilation=dilation,
        stage=draw(st.integers(1, 2)),
        input_quantizer=quantizers(draw, channels),
    )
    layer.scale.data.normal_()
    if draw(st.booleans()):
        layer.to(memory_format=torch.channels_last)
    x = torch.randn(draw(st.integers(1, 70)), layer.in_channels, *size) + 0.3
    x = (1024 * x).round() / 1024  # so that some are on a threshold, and shifts are exact
    return layer, x.to(memory_format=torch.channels_last) if draw(st.booleans()) else x


def is_at_an_edge(layer: BinaryConv2d, x: Tensor) -> bool:
    """Whether rounding decides if a gradient passes: a normalized input lies at the edge of a window, which is 1."""
    if not getattr(layer.input_quantizer, "normalize", False):
        return False
    samples = x.double().flatten(1)
    size = (samples / (samples.var(1, keepdim=True) + 1e-5).sqrt()).abs()
    return bool(((size - 1).abs() < 1e-6).any())


def results(layer: BinaryConv2d, x: Tensor, seed: int) -> dict[str, Tensor]:
    """The output and the gradients of a layer whose input is also used after the layer, as in a residual network."""
    layer.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y, passed_on = layer.branch(x)
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(y.shape, generator=generator, dtype=torch.float32)
    grad_past = torch.randn(x.shape, generator=generator, dtype=torch.float32)
    torch.autograd.backward([y, passed_on], [grad.to(y.dtype), grad_past.to(x.dtype)])
    assert x.grad is not None and layer.weight.grad is not None and layer.scale.grad is not None  # noqa: PT018
    found = {"y": y.detach(), "x": x.grad, "weight": layer.weight.grad, "scale": layer.scale.grad}
    for name, parameter in layer.input_quantizer.named_parameters():
        assert parameter.grad is not None
        found[f"input_quantizer.{name}"] = parameter.grad
    return {name: value.clone() for name, value in found.items()}


def summands_of(name: str, found: dict[str, Tensor], x: Tensor) -> int:
    """How many numbers of about 1 a result of `results` adds up: values of the input, or pixels of the output."""
    if name in ("y", "x"):
        return 1
    if name.startswith("input_quantizer"):
        return x.numel() // found[name].numel()
    return found["y"].numel() // found["y"].shape[1]


@given(convolutions() | convolutions(quantizers_of_other_methods))
@settings(max_examples=40)
def test_a_binary_convolution(case: tuple[BinaryConv2d, Tensor]) -> None:
    layer, x = case
    assume(not is_at_an_edge(layer, x))
    got = results(layer, x, 1)
    expected = results(layer.double(), x.double(), 1)
    for name, value in expected.items():
        assert error(got[name], value, summands_of(name, expected, x)) < 2e-5, name


@given(convolutions())
@settings(max_examples=30)
def test_a_binary_convolution_in_bfloat16(case: tuple[BinaryConv2d, Tensor]) -> None:
    """Compared with float64 on inputs and gradients that were rounded to bfloat16."""
    skip_without(torch.bfloat16)
    layer, x = case
    x = x.bfloat16()
    got = results(layer, x, 1)
    exact = results(layer.double(), x.double(), 1)
    # A table's sums of four weights of at most 1 are rounded by at most 4 / 32767, and then the whole sum to bfloat16.
    rounding = layer.weight[0].numel() / 32767 * float(layer.scale.detach().abs().max())
    torch.testing.assert_close(got["y"].double(), exact["y"], rtol=2**-8, atol=rounding)
    for name, value in exact.items():
        assert (got[name] - value).norm() <= 0.01 * value.norm(), name


@given(convolutions(quantizers_of_other_methods))
@settings(max_examples=30)
def test_inputs_of_other_methods_in_bfloat16(case: tuple[BinaryConv2d, Tensor]) -> None:
    """The kernels are as near to float64 as torch's operators in bfloat16, which round shifted inputs too."""
    skip_without(torch.bfloat16)
    layer, x = case
    x = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = results(layer, x, 1)
        with without_kernels():
            slow = results(layer, x, 1)
    exact = results(layer.double(), x.double(), 1)
    of_random_signs = exact["x"].norm()  # a sum of as many numbers of that size, which may cancel
    # With AMX, torch 2.13 computes NaN for some strided or dilated convolutions of finite numbers in bfloat16.
    assume(all(value.isfinite().all() for value in slow.values()))
    for name, value in exact.items():
        unit = torch.maximum(value.norm(), of_random_signs) if name.startswith("input_quantizer") else value.norm()
        assert got[name].dtype == slow[name].dtype
        assert (got[name] - value).norm() <= 0.01 * unit + 1.2 * (slow[name] - value).norm(), name


@given(convolutions(quantizers_of_other_methods), st.sampled_from([name for name in METHODS if name != "biper"]))
@settings(max_examples=20)
def test_weights_of_other_methods(case: tuple[BinaryConv2d, Tensor], method: str) -> None:
    """The difference to torch's operators in float32 is at most both of their rounding errors.

    The comparison is not with float64 alone, because there a weight on a threshold may have another sign. Torch's own
    error is its distance from float64, but never more than the kernels are allowed.
    """
    layer, x = case
    layer.weight_quantizer = make_weight_quantizer(read_method(method), 20.0, layer.out_channels)
    got = results(layer, x, 1)
    with without_kernels():
        expected = results(layer, x, 1)
    exact = results(layer.double(), x.double(), 1)
    for name, value in expected.items():
        summands = summands_of(name, expected, x)
        error_of_torch = min(error(value, exact[name], summands), 2e-5)
        assert error(got[name], value, summands) < 2e-5 + error_of_torch, name


@given(convolutions())
@settings(max_examples=15)
def test_sums_of_signs_are_exact(case: tuple[BinaryConv2d, Tensor]) -> None:
    layer, x = case
    set_stage_(layer, 2)
    exact = layer.double()(x.double())
    layer.float()
    for dtype in usable_dtypes():
        sums = layer(x.to(dtype))
        bits = layer.double()(x.to(dtype).double()) / layer.scale.view(-1, 1, 1)
        expected = (bits.round().float() * layer.float().scale.view(-1, 1, 1)).to(dtype)
        assert torch.equal(sums, expected)
    assert exact.shape == sums.shape


@pytest.mark.parametrize("dtype", DTYPES)
@given(convolutions())
@settings(max_examples=10)
def test_threads_change_nothing(dtype: torch.dtype, case: tuple[BinaryConv2d, Tensor]) -> None:
    skip_without(dtype)
    layer, x = case
    norm = nn.BatchNorm2d(layer.out_channels)
    threads, answers = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            bits = signs(x.to(dtype).contiguous(memory_format=torch.channels_last), 1e-5)
            weight, scale = convolutions_of_bits.taps_last(layer.weight), layer.scale
            geometry = convolutions_of_bits.Geometry.of(layer)
            y = convolutions_of_bits.convolution(bits, weight, scale, geometry, dtype)
            gradients = convolutions_of_bits.weight_gradient(bits, y, weight, scale, geometry)
            normed = norm_activation(norm, y.requires_grad_(), nn.Hardtanh())
            (grad,) = torch.autograd.grad(normed.float().square().sum(), y)
            answers.append([bits.memory[128:-128], bits.statistics, y, *gradients, normed, grad])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5), st.booleans())
@settings(max_examples=60)
def test_crops_mirrors_and_normalized_images(n: int, h: int, w: int, c: int, padding: int, flip: bool) -> None:
    images = torch.randint(256, (n, h, w, c), dtype=torch.uint8)
    numbers = tuple(range(1, c + 1))

    def prepared() -> tuple[Tensor, Tensor]:
        cropped = random_crop_and_flip(images, padding, flip, torch.Generator().manual_seed(1))
        return cropped, normalize(cropped, numbers, numbers)

    fast = prepared()
    with without_kernels():
        slow = prepared()
    assert torch.equal(fast[0], slow[0])
    torch.testing.assert_close(fast[1], slow[1])


ACTIVATIONS = (nn.Hardtanh(), nn.ReLU(), nn.Identity(), nn.Hardtanh(-0.5, 2.0), nn.Tanh())


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(ACTIVATIONS),
    st.booleans(),
)
@settings(max_examples=40)
def test_a_batch_norm(n: int, c: int, h: int, w: int, activation: nn.Module, with_residual: bool) -> None:
    assume(n * h * w >= 16)  # with fewer values the variance of a channel may be so small that rounding matters
    fast, plain = nn.BatchNorm2d(16 * c), nn.BatchNorm2d(16 * c).double()
    fast.weight.data.normal_()
    fast.bias.data.normal_()
    plain.load_state_dict(fast.state_dict())
    x, residual = 3 * torch.randn(n, 16 * c, h, w) + 1, torch.randn(n, 16 * c, h, w)
    bounds = bounds_of(activation)
    with torch.no_grad():
        before = copy.deepcopy(plain)(x.double()) + (residual if with_residual else 0)
    # Rounding decides whether such a number is inside the bounds, so that it has no gradient here.
    undecided = [(before - bound).abs() < 1e-5 for bound in bounds or ()]
    grad = torch.randn_like(x).masked_fill(sum(undecided, torch.zeros_like(x)) > 0, 0)
    answers = []
    for norm, dtype in ((fast, torch.float32), (plain, torch.float64)):
        a, b = (t.to(dtype, copy=True).requires_grad_() for t in (x, residual))
        out = norm_activation(norm, a, activation, b if with_residual else None)
        inputs = [a, norm.weight, norm.bias, *([b] if with_residual else [])]
        gradients = torch.autograd.grad(out, inputs, grad.to(dtype))
        norm.eval()
        with torch.no_grad():
            evaluated = norm_activation(norm, a, activation, b if with_residual else None)
        answers.append([out, *gradients, norm.running_mean, norm.running_var, evaluated])
        assert norm.num_batches_tracked == 1
    for got, expected in zip(*answers, strict=True):
        assert error(got, expected) < 1e-4


def a_trained_rprelu(channels: int) -> RPReLU:
    """With parameters that are multiples of 1/1024, some slopes below zero, and a different one for each channel."""
    activation = RPReLU(channels)
    for parameter in activation.parameters():
        parameter.data.add_((0.3 * 1024 * torch.randn_like(parameter)).round() / 1024)
    return activation


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 12),
    st.booleans(),
    st.booleans(),
    st.sampled_from(DTYPES),
)
@settings(max_examples=40)
def test_a_batch_norm_with_the_activation_of_reactnet(
    n: int, c: int, h: int, w: int, with_residual: bool, shared: bool, dtype: torch.dtype
) -> None:
    """In bfloat16 inputs, residuals and incoming gradients are rounded before, and results afterwards."""
    skip_without(dtype)
    assume(n * h * w >= 16)
    fast = nn.BatchNorm2d(16 * c), a_trained_rprelu(16 * c)
    fast[0].weight.data.normal_()
    fast[0].bias.data.normal_()
    plain = copy.deepcopy(fast)
    x, residual = (3 * torch.randn(n, 16 * c, h, w) + 1).to(dtype), torch.randn(n, 16 * c, h, w).to(dtype)
    if shared:
        residual = x
    with torch.no_grad():
        before = copy.deepcopy(plain[0]).double()(x.double()) + (residual if with_residual else 0)
    undecided = (before - plain[1].shift_in.view(-1, 1, 1)).abs() < 1e-4  # rounding decides on which side it is
    grad = torch.randn_like(x).masked_fill(undecided, 0)
    answers = []
    for (norm, activation), kind in ((fast, dtype), (plain, torch.float64)):
        if kind is torch.float64:
            norm.double(), activation.double()
        a, b = (t.to(kind, copy=True).requires_grad_() for t in (x, residual))
        out = norm_activation(norm, a, activation, b if with_residual else None)
        inputs = [a, *norm.parameters(), *activation.parameters(), *([b] if with_residual else [])]
        gradients = torch.autograd.grad(out, inputs, grad.to(kind))
        assert ("_NormRPReLU" in type(out.grad_fn).__name__) == (kind is not torch.float64)
        norm.eval()
        with torch.no_grad():
            evaluated = norm_activation(norm, a, activation, b if with_residual else None)
        answers.append([out, evaluated, *gradients, norm.running_mean, norm.running_var])
        assert norm.num_batches_tracked == 1
    for got, expected in zip(*answers, strict=True):
        if dtype is torch.bfloat16 and got.dtype is torch.bfloat16:
            assert (got.double() - expected).norm() <= 0.004 * expected.norm()
        else:
            assert error(got, expected) < (2e-2 if dtype is torch.bfloat16 else 1e-4)


@given(
    st.sampled_from([(1, 2), (3, 17), (16, 16, 3, 3), (5, 1, 1, 7), (40, 33)]),
    st.sampled_from(["removed", "kept"]),
    st.sampled_from(["channel", "layer"]),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_standardized_weights(shape: tuple[int, ...], mean: str, group: str, channels_last: bool, seed: int) -> None:
    torch.manual_seed(seed)
    weight = 0.1 * torch.randn(shape) + 0.05
    if channels_last and weight.dim() == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    weight[0] = torch.where(torch.rand(()) < 0.3, weight[0].mean(), weight[0])  # sometimes a channel of equal weights
    grad, answers = torch.randn(shape), []
    for dtype in (torch.float32, torch.float64):
        quantizer = StandardizedPeriodicSign(1.5, mean=mean, group=group)
        leaf = weight.to(dtype, copy=True).requires_grad_()
        phase = quantizer.phase(leaf)
        answers.append([phase, *torch.autograd.grad(phase, [leaf], grad.to(dtype))])
        assert phase.stride() == leaf.stride()
    for got, expected in zip(*answers, strict=True):
        assert error(got, expected) < 1e-4
    assert fits_weights(weight)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 12))
@settings(max_examples=30)
def test_the_activation_of_reactnet(n: int, c: int, size: int) -> None:
    fast = a_trained_rprelu(16 * c)
    plain = RPReLU(16 * c).double()
    plain.load_state_dict(fast.state_dict())
    x = (1024 * torch.randn(n, 16 * c, size, size)).round() / 1024
    x = x.to(memory_format=torch.channels_last)
    grad, answers = torch.randn_like(x), []
    for activation, dtype in ((fast, torch.float32), (plain, torch.float64)):
        a = x.to(dtype, copy=True).requires_grad_()
        out = activation(a)
        answers.append([out, *torch.autograd.grad(out, [a, *activation.parameters()], grad.to(dtype))])
    assert "_NativeRPReLU" in type(fast(x).grad_fn).__name__
    for got, expected in zip(*answers, strict=True):
        assert error(got, expected) < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["input", "weight", "gradient"])
def test_what_is_not_finite_stays_so(dtype: torch.dtype, where: str) -> None:
    """A value that is not finite makes results that are not finite, so that training stops before the update."""
    skip_without(dtype)
    layer = BinaryConv2d(16, 16, 3, padding=1)
    x, grad = torch.randn(2, 16, 8, 8, dtype=dtype), torch.randn(2, 16, 8, 8, dtype=dtype)
    {"input": x, "weight": layer.weight.data, "gradient": grad}[where].view(-1)[37] = float("nan")
    x.requires_grad_()
    y = norm_activation(nn.BatchNorm2d(16), layer(x), nn.Hardtanh(), x)
    if where != "gradient":
        assert y.isnan().any()
    else:
        y.backward(grad)
        assert layer.weight.grad is not None
        assert layer.weight.grad.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stage", [1, 2])
def test_dead_channels_have_small_gradients(dtype: torch.dtype, stage: int) -> None:
    """The scale of a channel may decay to almost 0. Gradients near 1e-35 must not become NaN."""
    skip_without(dtype)
    torch.manual_seed(0)
    layer = BinaryConv2d(16, 32, 3, padding=1, stage=stage)
    sizes = torch.logspace(-44, 0, 32)
    grad = (torch.randn(2, 32, 8, 8) * sizes.view(-1, 1, 1)).to(dtype)
    for tiny in (1e-44, 1e-36, 1e-30, 1.0):
        layer.zero_grad()
        layer.scale.data.fill_(tiny)
        x = torch.randn(2, 16, 8, 8, dtype=dtype, requires_grad=True)
        y = layer(x)
        y.backward(grad)
        assert y.abs().max() <= 150 * tiny  # 144 summands
        assert x.grad is not None and layer.weight.grad is not None and layer.scale.grad is not None  # noqa: PT018
        for value in (x.grad, layer.weight.grad, layer.scale.grad):
            assert value.isfinite().all()
        by_scale = layer.scale.grad.abs()
        assert (by_scale[sizes > 1e-20] > sizes[sizes > 1e-20]).all()


def test_tiny_weights_have_tiny_sums() -> None:
    torch.manual_seed(0)
    bits = signs(torch.randn(1, 16, 4, 4).to(memory_format=torch.channels_last), None)
    geometry = convolutions_of_bits.Geometry((1, 1), (1, 1), (1, 1))
    for tiny in (1e-45, 1e-38, 1e-30):
        for weight in (tiny * torch.randn(16, 16, 3, 3), tiny * torch.randn(16, 16, 3, 3).sign()):
            weight = convolutions_of_bits.taps_last(weight)
            for dtype in usable_dtypes():
                y = convolutions_of_bits.convolution(bits, weight, torch.ones(16), geometry, dtype)
                assert (y.abs().amax((0, 2, 3)) <= 1.01 * weight.abs().sum((1, 2, 3))).all()


def test_thresholds_of_another_number_of_channels_are_refused() -> None:
    layer = BinaryConv2d(32, 16, 3, input_quantizer=RSign(16))
    x = torch.randn(1, 32, 8, 8)
    with pytest.raises(ModelError, match=r"^expected an input of 16 channels, got 32 \(shape \(1, 32, 8, 8\)\)$"):
        layer(x)


class Doubled(RPReLU):
    """Another activation with the parameters of ReActNet's."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_class_made_from_the_activation_computes_its_own_function() -> None:
    norm, x = nn.BatchNorm2d(16), torch.randn(4, 16, 8, 8)
    plain = norm_activation(norm, x, RPReLU(16))
    torch.testing.assert_close(norm_activation(norm, x, Doubled(16)), 2 * plain)


def test_a_model_uses_the_kernels_unless_it_has_hooks() -> None:
    model = create_model("resnet20", dataset="cifar10").to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 32, 32)
    names = {type(node).__name__ for node in nodes(model(x))}
    assert {"_ConvolutionBackward", "_NormActivationBackward"} <= names
    assert not names & {"_ScaledConvolutionBackward", "HardtanhBackward1"}
    with without_kernels():
        slow = {type(node).__name__ for node in nodes(model(x))}
    assert "_ScaledConvolutionBackward" in slow
    assert not slow & {"_ConvolutionBackward", "_NormActivationBackward"}
    seen = []
    for module in model.modules():
        if isinstance(module, BinaryConv2d | nn.BatchNorm2d | ApproxSign):
            module.register_forward_hook(lambda module, _inputs, _output: seen.append(module))
    model(x)
    assert len(seen) == 18 + 19 + 18


def nodes(result: Tensor) -> set[torch.autograd.graph.Node]:
    """The nodes of the autograd graph of a result."""
    found: set[torch.autograd.graph.Node] = set()
    waiting = [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(earlier for earlier, _ in node.next_functions)
    return found


def test_a_step_of_a_network_is_that_of_torchs_operators() -> None:
    """Equal to the accuracy of float32 in stage 2, where no activation is so near to 0 that its bit flips."""
    model = create_model("digits_cnn", dataset="digits")
    set_stage_(model, 2)
    x, labels = torch.randn(16, 1, 8, 8), torch.randint(10, (16,))

    def gradients() -> list[Tensor]:
        loss = nn.functional.cross_entropy(model(x), labels) + periodic_penalty(model, 0.05)
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    fast = gradients()
    with without_kernels():
        slow = gradients()
    for got, expected in zip(fast, slow, strict=True):
        assert error(got, expected) < 1e-4


def test_frozen_weights_have_no_gradient_and_pass_it_on() -> None:
    layer = BinaryConv2d(16, 16, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 16, 5, 5, requires_grad=True)
    y, passed_on = branch(layer, x)
    y.sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    (alone,) = torch.autograd.grad((2 * branch(layer, x)[1]).sum(), x)
    assert torch.equal(alone, torch.full_like(x, 2))
    assert torch.equal(passed_on, x)


def test_a_line_describes_which_layers_use_the_kernels(kernels: str) -> None:
    resnet = create_model("resnet20", dataset="cifar10")
    assert describe_fast_path(resnet, "cpu", torch.float32) == (
        f"native training kernels: on ({kernels}) for 18 of 18 binary convolutions"
    )
    assert describe_fast_path(resnet, "cuda", torch.bfloat16) == "native training kernels: off, they are for CPUs"
    assert "torch.compile" in describe_fast_path(resnet, "cpu", torch.float32, compiled=True)
    assert "not in float64" in describe_fast_path(resnet, "cpu", torch.float64)
    with without_kernels():
        assert describe_fast_path(resnet, "cpu", torch.float32).endswith("off, BIPER_KERNELS=0")
    mobilenet = create_model("mobilenet", dataset="imagenet")
    assert describe_fast_path(mobilenet, "cpu", torch.float32).endswith(
        " for 26 of 39 binary convolutions; 13 use torch's operators for grouped channels"
    )
    narrow = nn.Sequential(BinaryConv2d(8, 16, 3), BinaryConv2d(16, 16, 3, input_quantizer=nn.Identity()))
    line = describe_fast_path(narrow, "cpu", torch.float32)
    assert f"on ({kernels}) for 0 of 2" in line
    assert "1 use torch's operators for channels that are not a multiple of 16; 1 use torch's operators for Ide" in line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch deprecates functions that it calls itself
def test_a_compiled_model_trains_as_the_others(tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=2", "stage2.epochs=2"])
    eager = train(recipe, tmp_path / "eager")
    compiled = train(recipe, tmp_path / "compiled", compiled=True)
    assert compiled["stage2"]["test_accuracy"] == pytest.approx(eager["stage2"]["test_accuracy"], abs=0.06)


def test_another_default_dtype_changes_nothing() -> None:
    """lightning-fabric changes the default dtype while it computes in float64."""
    images = torch.randint(256, (3, 8, 8, 1), dtype=torch.uint8)
    layer, x = BinaryConv2d(16, 16, 3, padding=1), torch.randn(2, 16, 5, 5)

    def outcomes() -> list[Tensor]:
        penalty = periodic_penalty(layer, 0.5)
        return [normalize(images, (0.5,), (0.25,)), penalty, *results(layer, x, 1).values()]

    expected = outcomes()
    torch.set_default_dtype(torch.float64)
    try:
        actual = outcomes()
    finally:
        torch.set_default_dtype(torch.float32)
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype is torch.float32
        assert torch.equal(got, want)
