"""`PeriodicSign`: its values, its gradient and its state dict."""

from __future__ import annotations

import math

import pytest
import torch
from support.formulas import gradient_of
from torch import Tensor

from biper.errors import CheckpointError, ModelError
from biper.quantizers import PeriodicSign, Stage, TunedPeriodicSign


def test_a_stage_can_be_assigned_by_its_name() -> None:
    quantizer = PeriodicSign(20.0, "binary")
    quantizer.stage = "relaxed"
    assert quantizer.stage is Stage.RELAXED
    assert quantizer(torch.tensor([0.01])).item() == pytest.approx(math.sin(0.2))
    with pytest.raises(ModelError, match='stage must be "relaxed"'):
        quantizer.stage = "third"


def test_relaxed_stage_is_the_sine() -> None:
    w = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(PeriodicSign(20.0)(w), torch.sin(20 * w))


def test_binary_stage_is_the_sign_of_the_sine_and_plus_one_at_zero() -> None:
    w = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    q = PeriodicSign(20.0, "binary")(w)
    assert torch.equal(q, torch.where(torch.sin(20 * w) >= 0, 1.0, -1.0).double())
    zeros = torch.tensor([0.0, -0.0])
    assert PeriodicSign(20.0, "binary")(zeros).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", [PeriodicSign, TunedPeriodicSign])
def test_only_the_binary_stage_promises_signs_to_the_kernels(kind: type[PeriodicSign]) -> None:
    assert not kind(20.0, "relaxed").gives_scaled_signs
    assert kind(20.0, "binary").gives_scaled_signs


@pytest.mark.parametrize("frequency", [0.5, 5.0, 20.0, 40.0])
def test_smooth_stage_passes_gradcheck_twice(frequency: float) -> None:
    w = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PeriodicSign(frequency), (w,))
    assert torch.autograd.gradgradcheck(PeriodicSign(frequency), (w,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_both_stages_have_exactly_the_same_gradient(dtype: torch.dtype) -> None:
    w = torch.randn(1000).to(dtype)
    upstream = torch.randn(1000).to(dtype)
    relaxed = gradient_of(PeriodicSign(20.0, 1), w, upstream)
    binary = gradient_of(PeriodicSign(20.0, 2), w, upstream)
    assert torch.equal(relaxed, binary)
    assert relaxed.abs().max() > 0


def test_periodic_sign_saves_only_the_weight() -> None:
    w = torch.randn(100, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        PeriodicSign(20.0, "binary")(w)
    assert [t.data_ptr() for t in saved] == [w.data_ptr()]


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
