"""An image on which the engine differs from the reference is judged by the values at its first flipped bit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from biper import BinaryConv2d
from biper.lowering import engine_check
from biper.lowering.engine_check import difference_at_first_flip
from biper.lowering.lower import lower
from biper.lowering.pack import pack_graph
from biper.runtime.program import Program
from biper.runtime.reference import run_reference


@pytest.fixture
def program() -> Program:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), BinaryConv2d(8, 8, 3, stage="binary"), nn.GroupNorm(2, 8)]
    model = nn.Sequential(*layers, BinaryConv2d(8, 4, 1, stage="binary")).eval()
    graph = lower(model, torch.randn(1, 3, 8, 8))
    return pack_graph(graph, mean=(0.0,) * 3, std=(1.0,) * 3, classes=())


@pytest.mark.parametrize("flips", [True, False])
def test_the_difference_is_that_of_the_values_and_infinite_without_a_flip(
    program: Program, monkeypatch: pytest.MonkeyPatch, flips: bool
) -> None:
    """The engine is the reference, but gives the value that is nearest to zero the other sign."""
    expected: list[float] = []

    class Other:
        def __init__(self, shown: Program) -> None:
            self.shown = shown

        def run(
            self, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]
        ) -> list[NDArray[np.float32]]:
            values = run_reference(self.shown, images, others)
            results = [values[name].copy() for name in self.shown.outputs.values()]
            assert len(results) == 2
            if flips:
                nearest = np.abs(results[0]).argmin()
                results[0].flat[nearest] *= -1
                expected.append(2 * abs(results[0].flat[nearest]) / np.abs(results[0]).max())
            return results

    monkeypatch.setattr(engine_check, "Engine", Other)
    images = np.random.Generator(np.random.PCG64(0)).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = difference_at_first_flip(program, images, {})
    assert found == (pytest.approx(max(expected)) if flips else math.inf)
    assert difference_at_first_flip(program, images[:0], {}) == 0
