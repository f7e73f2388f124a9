from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biper.errors import CheckpointError, ModelError
from biper.quantizers import ApproxSign, PeriodicSign, Stage, SteSign


def gradient(function: torch.nn.Module, x: Tensor, upstream: Tensor | None = None) -> Tensor:
    x = x.detach().requires_grad_()
    y = function(x)
    (result,) = torch.autograd.grad(y, x, torch.ones_like(y) if upstream is None else upstream)
    return result


def test_relaxed_stage_is_the_sine() -> None:
    w = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(PeriodicSign(20.0)(w), torch.sin(20 * w))


def test_binary_stage_is_the_sign_of_the_sine_and_plus_one_at_zero() -> None:
    w = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    q = PeriodicSign(20.0, "binary")(w)
    assert torch.equal(q, torch.where(torch.sin(20 * w) >= 0, 1.0, -1.0).double())
    zeros = torch.tensor([0.0, -0.0])
    assert PeriodicSign(20.0, "binary")(zeros).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("frequency", [0.5, 5.0, 20.0, 40.0])
def test_smooth_stage_passes_gradcheck_twice(frequency: float) -> None:
    w = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PeriodicSign(frequency), (w,))
    assert torch.autograd.gradgradcheck(PeriodicSign(frequency), (w,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_both_stages_have_exactly_the_same_gradient(dtype: torch.dtype) -> None:
    w = torch.randn(1000).to(dtype)
    upstream = torch.randn(1000).to(dtype)
    relaxed = gradient(PeriodicSign(20.0, 1), w, upstream)
    binary = gradient(PeriodicSign(20.0, 2), w, upstream)
    assert torch.equal(relaxed, binary)
    assert relaxed.abs().max() > 0


def test_periodic_sign_saves_only_the_weight() -> None:
    w = torch.randn(100, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        PeriodicSign(20.0, "binary")(w)
    assert [t.data_ptr() for t in saved] == [w.data_ptr()]


def test_approx_sign_follows_its_formula() -> None:
    x = torch.tensor([-2.0, -1.0, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0], dtype=torch.float64)
    assert ApproxSign()(x).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1, 1]
    assert gradient(ApproxSign(), x).tolist() == [0, 0, 1.5, 2, 2, 1.5, 1, 0, 0]


def test_ste_sign_follows_its_formula() -> None:
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    assert SteSign()(x).tolist() == [-1, -1, -1, 1, 1, 1, 1]
    assert gradient(SteSign(), x).tolist() == [0, 1, 1, 1, 1, 1, 0]


def smooth_approx_sign(x: Tensor) -> Tensor:
    """The piecewise polynomial whose derivative ApproxSign uses."""
    inside = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
    return torch.where(x.abs() < 1, inside, torch.where(x >= 0, 1.0, -1.0).double())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalized_gradient_is_that_of_the_plain_formulas(memory_format: torch.memory_format) -> None:
    x = torch.randn(5, 6, 4, 3, dtype=torch.float64).add_(0.3).to(memory_format=memory_format)
    upstream = torch.randn(5, 6, 4, 3, dtype=torch.float64)
    actual = gradient(ApproxSign(normalize=True), x, upstream)
    x.requires_grad_()
    plain = smooth_approx_sign(x / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5))
    (expected,) = torch.autograd.grad(plain, x, upstream)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_normalization_never_moves_a_sign_and_is_left_out_of_evaluation() -> None:
    x = torch.randn(4, 10)
    quantizer = ApproxSign(normalize=True)
    assert torch.equal(quantizer(x), ApproxSign()(x))
    assert torch.equal(gradient(quantizer.eval(), x), gradient(ApproxSign(), x))


@pytest.mark.parametrize("x", [torch.zeros(2, 3), torch.full((2, 3), 5.0), torch.ones(2, 1)])
def test_constant_samples_and_single_values_have_finite_gradients(x: Tensor) -> None:
    assert torch.isfinite(gradient(ApproxSign(normalize=True), x)).all()


def test_normalizing_saves_the_input_and_two_numbers_a_sample() -> None:
    x = torch.randn(4, 8, 5, 5, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ApproxSign(normalize=True)(x)
    assert sorted(t.numel() for t in saved) == [4, 4, x.numel()]


def test_frequency_and_stage_are_in_the_state_dict_and_come_back_exactly() -> None:
    quantizer = PeriodicSign(20.1, "binary")
    state = quantizer.bfloat16().state_dict()
    assert set(state) == {"frequency", "stage"}
    other = PeriodicSign(3.0)
    other.load_state_dict(state)
    assert (other.frequency, other.stage) == (20.1, Stage.BINARY)


def test_a_state_dict_without_the_frequency_does_not_load() -> None:
    state = PeriodicSign(20.0).state_dict()
    del state["frequency"]
    with pytest.raises(RuntimeError, match="frequency"):
        PeriodicSign(20.0).load_state_dict(state)


def test_a_state_dict_with_an_impossible_stage_does_not_load() -> None:
    state = PeriodicSign(20.0).state_dict() | {"stage": torch.tensor(7, dtype=torch.uint8)}
    with pytest.raises(CheckpointError, match="stage must be"):
        PeriodicSign(20.0).load_state_dict(state)


@pytest.mark.parametrize("frequency", [0.0, -1.0, math.nan, math.inf])
def test_impossible_frequencies_are_refused(frequency: float) -> None:
    with pytest.raises(ModelError, match="frequency must be a positive finite number"):
        PeriodicSign(frequency)


@pytest.mark.parametrize("stage", [0, 3, "square", True])
def test_impossible_stages_are_refused(stage: int | str) -> None:
    with pytest.raises(ModelError, match="stage must be"):
        PeriodicSign(20.0, stage)


@pytest.mark.parametrize("quantizer", [ApproxSign(normalize=True), SteSign(normalize=True)])
def test_the_layouts_of_input_and_gradient_may_differ(quantizer: torch.nn.Module) -> None:
    x, grad = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    layouts = torch.contiguous_format, torch.channels_last
    answers = []
    for of_input, of_gradient in itertools.product(layouts, layouts):
        y = x.clone(memory_format=of_input).requires_grad_()
        quantizer(y).backward(grad.contiguous(memory_format=of_gradient))
        assert y.grad is not None
        answers.append(y.grad)
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0])
