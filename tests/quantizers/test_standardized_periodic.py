"""The standardized phase: its values, its exact gradient, its invariances, its state and its wrong arguments."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biper import BinaryConv2d, BinaryLinear, periodic_penalty
from biper.errors import CheckpointError, ModelError
from biper.nn import set_progress_
from biper.quantizers import PeriodicSign, StandardizedPeriodicSign, TunedPeriodicSign, sign

GROUPS = [(mean, group) for mean in ("removed", "kept") for group in ("channel", "layer")]


def weights(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.1 + 0.04


def plain_phase(w: Tensor, deviation: float, mean: str, group: str) -> Tensor:
    dims = tuple(range(1 if group == "channel" else 0, w.dim()))
    centre = w.mean(dims, keepdim=True) if mean == "removed" else 0.0
    return deviation * (w - centre) / w.std(dims, keepdim=True)


@pytest.mark.parametrize(("mean", "group"), GROUPS)
@pytest.mark.parametrize("shape", [(3, 4, 3, 2), (5, 7), (1, 2)])
def test_the_phase_has_the_deviation_that_was_asked_for(mean: str, group: str, shape: tuple[int, ...]) -> None:
    w = weights(*shape)
    quantizer = StandardizedPeriodicSign(1.5, mean=mean, group=group)
    phase = quantizer.phase(w)
    torch.testing.assert_close(phase, plain_phase(w, 1.5, mean, group), rtol=1e-12, atol=1e-12)
    whole = phase.flatten(1) if group == "channel" else phase.flatten()[None]
    torch.testing.assert_close(whole.std(1), torch.full((len(whole),), 1.5).double())
    if mean == "removed":
        torch.testing.assert_close(whole.mean(1), torch.zeros(len(whole)).double(), rtol=0, atol=1e-12)
    frequencies = quantizer.frequency_of(w)
    centre = w.mean(tuple(range(1 if group == "channel" else 0, w.dim())), keepdim=True) if mean == "removed" else 0.0
    torch.testing.assert_close((w - centre) * frequencies, phase)
    torch.testing.assert_close(quantizer(w), torch.sin(phase))
    quantizer.stage = "binary"
    assert torch.equal(quantizer(w), sign(torch.sin(phase)))
    assert torch.equal(quantizer(w), sign(quantizer.sign_argument(w)))


@pytest.mark.parametrize(("mean", "group"), GROUPS)
@pytest.mark.parametrize("learned", [0, 1, 3])
def test_the_gradient_is_exact(mean: str, group: str, learned: int) -> None:
    """The wave is smooth in stage 1, so that differences of its values give the gradient; stage 2 uses the same."""
    w = weights(3, 2, 2, 2).requires_grad_()
    quantizer = StandardizedPeriodicSign(1.3, mean=mean, group=group, learned_deviations=learned).double()
    if learned:
        torch.nn.init.uniform_(quantizer.log_gain, -0.5, 0.5)
    assert torch.autograd.gradcheck(quantizer, (w,), eps=1e-6, atol=1e-7, rtol=1e-5, check_undefined_grad=False)
    upstream = weights(3, 2, 2, 2, seed=1)
    (relaxed,) = torch.autograd.grad(quantizer(w), w, upstream)
    quantizer.stage = 2
    (binary,) = torch.autograd.grad(quantizer(w), w, upstream)
    torch.testing.assert_close(binary, relaxed, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("mean", "group"), GROUPS)
def test_the_gradient_is_the_formula_of_the_docstring(mean: str, group: str) -> None:
    w, g = weights(4, 9).requires_grad_(), weights(4, 9, seed=1)
    quantizer = StandardizedPeriodicSign(0.8, mean=mean, group=group, wave="triangle")
    (got,) = torch.autograd.grad(quantizer(w), w, g)
    rows = (lambda x: x) if group == "channel" else (lambda x: x.reshape(1, -1))
    v, std = rows(w.detach()), rows(w.detach()).std(1, keepdim=True)
    phase, v, over = rows(quantizer.phase(w).detach()), (v - v.mean(1, keepdim=True)) / std, v / std
    h, n = rows(g) * sign(torch.cos(phase)) * 2 / math.pi, v.shape[1]
    if mean == "removed":
        expected = h - h.mean(1, keepdim=True) - v * (h * v).sum(1, keepdim=True) / (n - 1)
    else:
        expected = h - v * (h * over).sum(1, keepdim=True) / (n - 1)
    torch.testing.assert_close(rows(got), 0.8 / std * expected)


@pytest.mark.parametrize(("mean", "group"), GROUPS)
def test_the_length_of_the_weights_changes_nothing(mean: str, group: str) -> None:
    w = weights(4, 3, 3, 3).requires_grad_()
    quantizer = StandardizedPeriodicSign(1.5, "binary", mean=mean, group=group)
    for factor in (1e-12, 1e9):
        torch.testing.assert_close(quantizer.phase(w * factor), quantizer.phase(w))
        assert torch.equal(quantizer(w * factor), quantizer(w))
    (gradient,) = torch.autograd.grad(quantizer(w), w, weights(4, 3, 3, 3, seed=1))
    dims = (1, 2, 3) if group == "channel" else (0, 1, 2, 3)
    zero = torch.zeros(4 if group == "channel" else (), dtype=torch.float64)
    torch.testing.assert_close((gradient * w.detach()).sum(dims), zero, rtol=0, atol=1e-9)
    if mean == "removed":
        torch.testing.assert_close(gradient.sum(dims), zero, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mean", "group"), GROUPS)
@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_equal_weights_have_the_phase_and_the_gradient_zero(
    mean: str, group: str, value: float, dtype: torch.dtype
) -> None:
    w = torch.full((2, 3, 5, 5), value, dtype=dtype, requires_grad=True)
    for stage in (1, 2):
        y = StandardizedPeriodicSign(1.5, stage, mean=mean, group=group)(w)
        assert y.unique().tolist() == [stage - 1]
        (gradient,) = torch.autograd.grad(y.sum(), w)
        assert gradient.unique().tolist() == [0.0]


def test_bits_do_not_depend_on_the_order_of_sums() -> None:
    w = weights(64, 64, 3, 3).float()
    quantizer = StandardizedPeriodicSign(1.5, "binary")
    expected = quantizer(w)
    assert torch.equal(quantizer(w.to(memory_format=torch.channels_last)), expected)
    turned = w.flatten(1).flip(1)
    assert torch.equal(quantizer(turned).flip(1), expected.flatten(1))


def test_the_deviation_follows_its_schedule_and_is_saved() -> None:
    quantizer = StandardizedPeriodicSign(0.5, phase_deviation_end=2.0, sharpen_from=0.5, learned_deviations=4)
    set_progress_(quantizer, 0.5)
    assert quantizer.phase_deviation == pytest.approx(1.0)
    torch.nn.init.uniform_(quantizer.log_gain, -1, 1)
    state = quantizer.state_dict()
    assert sorted(state) == ["log_gain", "phase_deviation", "phase_deviation_start", "sharpness", "stage"]
    other = StandardizedPeriodicSign(3.0, phase_deviation_end=2.0, sharpen_from=0.5, learned_deviations=4)
    other.load_state_dict(state)
    w = weights(4, 6)
    assert torch.equal(other(w), quantizer(w))
    set_progress_(other, 1.0)
    assert (other.phase_deviation, other.sharpness) == (2.0, 10.0)
    assert 'phase_deviation=2, stage="relaxed", mean="removed", group="channel"' in repr(other)
    with pytest.raises(RuntimeError, match="Missing key"):  # a frequency is no deviation
        StandardizedPeriodicSign().load_state_dict(TunedPeriodicSign(20.0).state_dict())
    broken = StandardizedPeriodicSign().state_dict() | {"phase_deviation": torch.tensor(-1.0)}
    with pytest.raises(CheckpointError, match="phase_deviation must be a positive finite number"):
        StandardizedPeriodicSign().load_state_dict(broken)


def test_wrong_arguments_are_one_line() -> None:
    wrong = [
        ({"phase_deviation": 0.0}, "phase_deviation must be a positive finite number, got 0.0"),
        ({"phase_deviation_end": math.inf}, "phase_deviation_end must be a positive finite number, got inf"),
        ({"mean": "off"}, 'mean must be "removed" or "kept", got \'off\''),
        ({"group": "row"}, 'group must be "channel" or "layer", got \'row\''),
    ]
    for options, message in wrong:
        with pytest.raises(ModelError) as caught:
            StandardizedPeriodicSign(**options)
        assert str(caught.value) == message
    with pytest.raises(ModelError, match="needs at least two weights in each channel, got a weight of shape"):
        StandardizedPeriodicSign()(torch.ones(8, 1, 1, 1))
    assert StandardizedPeriodicSign(group="layer")(weights(8, 1, 1, 1)).shape == (8, 1, 1, 1)


def test_the_frequency_of_other_quantizers() -> None:
    w = weights(3, 2, 3, 3)
    for quantizer in (PeriodicSign(7.0), TunedPeriodicSign(7.0), TunedPeriodicSign(7.0, learned_frequencies=3)):
        torch.testing.assert_close(w * quantizer.frequency_of(w), quantizer.phase(w), check_dtype=False)


@pytest.mark.parametrize(("mean", "group"), GROUPS)
def test_the_penalty_is_that_of_the_standardized_phase(mean: str, group: str) -> None:
    layer = BinaryLinear(5, 3, weight_quantizer=StandardizedPeriodicSign(1.2, mean=mean, group=group)).double()
    w = layer.weight
    periodic_penalty(layer, 0.4).backward()
    plain = w.detach().clone().requires_grad_()
    expected = 0.4 * torch.sin(plain_phase(plain, 1.2, mean, group)).square().mean()
    torch.testing.assert_close(periodic_penalty(layer, 0.4), expected)
    expected.backward()
    torch.testing.assert_close(w.grad, plain.grad)
    assert abs((w.grad * w).sum().item()) < 1e-12  # shorter weights do not lower it


def test_native_kernels_that_take_one_frequency_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernels can run, a layer with a standardized phase must not give them its σ as a frequency."""
    from biper.fast import weights as kernels

    def refuse(*_: object) -> None:
        raise AssertionError("a kernel was asked")

    monkeypatch.setattr(kernels, "fits_weights", lambda *_: True)
    for name in ("wave_gradient", "squared_sines", "double_angle_sines"):
        monkeypatch.setattr(kernels, name, refuse)
    layers = torch.nn.ModuleList(
        BinaryConv2d(16, 16, 3, weight_quantizer=quantizer)
        for quantizer in (StandardizedPeriodicSign(1.5), StandardizedPeriodicSign(1.5, learned_deviations=16))
    )
    for layer in layers:
        (layer(torch.randn(1, 16, 5, 5)).sum() + periodic_penalty(layer, 0.5)).backward()
    with pytest.raises(AssertionError, match="a kernel was asked"):
        periodic_penalty(BinaryConv2d(16, 16, 3), 0.5)


def test_every_combination_of_options_computes() -> None:
    w = weights(2, 4)
    for (mean, group), wave, end, sharpen, learned in itertools.product(
        GROUPS, ("sine", "triangle"), (None, 2.0), (None, 0.0), (0, 1, 2)
    ):
        quantizer = StandardizedPeriodicSign(
            1.0,
            mean=mean,
            group=group,
            wave=wave,
            phase_deviation_end=end,
            sharpen_from=sharpen,
            learned_deviations=learned,
        ).double()
        set_progress_(quantizer, 0.5)
        assert quantizer(w).abs().max() <= 1
