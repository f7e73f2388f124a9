"""The periodic penalty and its gradient, against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biper import BinaryConv2d, BinaryLinear, load_recipe, periodic_penalty
from biper.quantizers import TunedPeriodicSign


def test_penalty_is_the_strength_times_the_sum_of_means() -> None:
    model = nn.Sequential(BinaryLinear(3, 4, frequency=5.0), nn.Linear(4, 4), BinaryLinear(4, 2)).double()
    expected = sum(torch.sin(f * model[i].weight).square().mean() for i, f in ((0, 5.0), (2, 20.0)))
    torch.testing.assert_close(periodic_penalty(model, 0.037), 0.037 * expected)
    periodic_penalty(model, 0.5).backward()
    w = model[0].weight
    torch.testing.assert_close(w.grad, 0.5 * 5 * torch.sin(2 * 5 * w) / w.numel())
    assert periodic_penalty(nn.Linear(2, 2), 0.5).item() == 0


@pytest.mark.parametrize("strength", [0.5, -0.5])
def test_the_penalty_is_of_the_frequency_that_is_used_and_may_be_negative(strength: float) -> None:
    quantizer = TunedPeriodicSign(7.0, learned_frequencies=3)
    layer = BinaryConv2d(2, 3, 3, weight_quantizer=quantizer).double()
    nn.init.uniform_(quantizer.log_gain, -1, 1)
    penalty = periodic_penalty(layer, strength)
    phase = 7 * quantizer.log_gain.detach().exp().view(3, 1, 1, 1) * layer.weight.detach()
    torch.testing.assert_close(penalty, strength * torch.sin(phase).square().mean())
    penalty.backward()
    expected = strength * torch.sin(2 * phase) * phase / layer.weight / layer.weight.numel()
    torch.testing.assert_close(layer.weight.grad, expected)
    assert load_recipe("digits", [f"stage1.periodic_penalty={strength}"]).stage1.periodic_penalty == strength
