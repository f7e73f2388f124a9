"""Networks of signals (N, C, L): packed as images of height 1, with the outputs of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import biper
from biper import BinarizeConfig, BinaryConv1d, binarize_
from biper.errors import DataError, ExportError
from biper.methods.presets import METHODS
from biper.methods.settings import read_method
from biper.runtime import Model


class MeanOverLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


def trained_like(model: nn.Module, signals: Tensor) -> nn.Module:
    """A model in stage 2 whose batch norms have seen signals."""
    biper.set_stage_(model, "binary")
    with torch.no_grad():
        for _ in range(5):
            model.train()(signals)
    return model.eval()


def require_equal(model: nn.Module, signals: Tensor, path: Path) -> Model:
    report = biper.export(model, path, signals)
    assert report.wrong_sums == 0
    packed = Model.load(path)
    with torch.no_grad():
        expected = model(signals).numpy()
    actual = packed(signals.numpy())
    close = np.abs(actual - expected).max(1) <= 1e-4 * np.abs(expected).max()
    assert close.sum() >= len(signals) - 1, "at most one signal has a bit that rounding flips"
    return packed


@pytest.mark.parametrize("method", METHODS)
def test_a_network_of_every_method_is_packed(method: str, tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.Hardtanh(),
        MeanOverLength(),
        nn.Linear(16, 4),
    )
    signals = torch.randn(8, 3, 48)
    report = binarize_(model, BinarizeConfig(method=read_method(method)), example=signals)
    assert report.changed == ("4",)
    packed = require_equal(trained_like(model, signals), signals, tmp_path / "m.biper")
    assert packed.program.input_shape == (3, 1, 48)
    images = signals.unsqueeze(2).numpy()
    assert np.array_equal(packed(images), packed(signals.numpy())), "a signal is an image of height 1"
    with pytest.raises(DataError, match="the model expects"):
        packed(signals.numpy()[:, :, :40])


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_binary_convolutions_of_any_geometry_are_packed(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = groups * draw(st.integers(1, 12)), groups * draw(st.integers(1, 12))
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from([0, 1, 3, "same", "valid", "causal"]))
    stride = 1 if padding == "same" else stride
    torch.manual_seed(draw(st.integers(0, 1000)))
    layer = BinaryConv1d(
        inputs, outputs, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()), stage="binary"
    )
    layer.scale.data.normal_()
    pool = draw(st.sampled_from([nn.AdaptiveAvgPool1d(1), nn.AvgPool1d(2), nn.MaxPool1d(2, 1)]))
    model = nn.Sequential(layer, pool, nn.Flatten(), nn.LazyLinear(3))
    signals = torch.randn(4, inputs, draw(st.integers(16, 30)))
    model(signals)
    require_equal(model.eval(), signals, tmp_path / "m.biper")


def test_padding_in_another_mode_is_refused_by_name(tmp_path: Path) -> None:
    layer = BinaryConv1d(8, 8, 3, padding=1, padding_mode="reflect", stage="binary")
    model = nn.Sequential(nn.Conv1d(2, 8, 3), layer, MeanOverLength()).eval()
    with pytest.raises(ExportError, match='1: padding_mode="reflect" is not supported'):
        biper.export(model, tmp_path / "m.biper", torch.randn(2, 2, 20))
