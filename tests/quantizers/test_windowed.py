"""`ApproxSign` and `SteSign`: their values and gradients, with and without normalization."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.formulas import approx_surrogate, gradient_of
from torch import Tensor

from biper.quantizers import ApproxSign, SteSign


def test_approx_sign_follows_its_formula() -> None:
    x = torch.tensor([-2.0, -1.0, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0], dtype=torch.float64)
    assert ApproxSign()(x).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1, 1]
    assert gradient_of(ApproxSign(), x).tolist() == [0, 0, 1.5, 2, 2, 1.5, 1, 0, 0]


def test_ste_sign_follows_its_formula() -> None:
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    assert SteSign()(x).tolist() == [-1, -1, -1, 1, 1, 1, 1]
    assert gradient_of(SteSign(), x).tolist() == [0, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalized_gradient_is_that_of_the_plain_formulas(memory_format: torch.memory_format) -> None:
    x = torch.randn(5, 6, 4, 3, dtype=torch.float64).add_(0.3).to(memory_format=memory_format)
    upstream = torch.randn(5, 6, 4, 3, dtype=torch.float64)
    actual = gradient_of(ApproxSign(normalize=True), x, upstream)
    x.requires_grad_()
    plain = approx_surrogate(x / torch.sqrt(x.var((1, 2, 3), keepdim=True) + 1e-5))
    (expected,) = torch.autograd.grad(plain, x, upstream)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_normalization_never_moves_a_sign_and_is_left_out_of_evaluation() -> None:
    x = torch.randn(4, 10)
    quantizer = ApproxSign(normalize=True)
    assert torch.equal(quantizer(x), ApproxSign()(x))
    assert torch.equal(gradient_of(quantizer.eval(), x), gradient_of(ApproxSign(), x))


@pytest.mark.parametrize("x", [torch.zeros(2, 3), torch.full((2, 3), 5.0), torch.ones(2, 1)])
def test_constant_samples_and_single_values_have_finite_gradients(x: Tensor) -> None:
    assert torch.isfinite(gradient_of(ApproxSign(normalize=True), x)).all()


def test_normalizing_saves_the_input_and_two_numbers_a_sample() -> None:
    x = torch.randn(4, 8, 5, 5, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ApproxSign(normalize=True)(x)
    assert sorted(t.numel() for t in saved) == [4, 4, x.numel()]


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
