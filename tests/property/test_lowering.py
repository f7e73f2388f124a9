"""Random small networks of every supported operator are packed, and compute what torch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinaryConv2d, BinaryLinear
from biper.lowering.fold import integer_thresholds
from biper.lowering.lower import lower
from biper.lowering.pack import pack_graph
from biper.lowering.verify import verify
from biper.quantizers import RPReLU, RSign
from biper.runtime.program import write_program
from biper.runtime.reader import read_program


class Lambda(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """The sum of a body and a shortcut, in either order."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, body_first: bool) -> None:
        super().__init__()
        self.body, self.shortcut, self.body_first = body, shortcut, body_first

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x) if self.body_first else self.shortcut(x) + self.body(x)


class Concatenation(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


def randomized_norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm with random statistics and weights, some of them negative and some zero."""
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight[torch.rand(channels) < 0.2] = 0
    return norm


def binary(in_channels: int, out_channels: int, *arguments: object, **options: object) -> BinaryConv2d:
    layer = BinaryConv2d(in_channels, out_channels, *arguments, stage="binary", **options)
    nn.init.normal_(layer.scale)
    with torch.no_grad():
        layer.scale[torch.rand(out_channels) < 0.2] = 0
    return layer


KINDS = ("binary", "binary", "float", "norm", "clip", "relu", "prelu", "max", "average", "pad", "cat", "resize")
KINDS += ("arithmetic", "residual", "grouped", "depthwise", "stride", "function", "shift")


def draw_layer(draw: st.DrawFn, channels: int, size: int) -> tuple[nn.Module, int]:
    """A layer for (channels, size, size) maps whose result is at least 1 pixel wide, and its output channels."""
    kind = draw(st.sampled_from(KINDS))
    width = draw(st.integers(1, 9))
    match kind:
        case "binary":
            kernel = draw(st.integers(1, 3))
            options = {"bias": draw(st.booleans()), "stride": draw(st.integers(1, 2)), "padding": kernel // 2}
            if draw(st.booleans()):
                options["input_quantizer"] = nn.Identity()
            return binary(channels, width, kernel, **options), width
        case "float":
            return nn.Conv2d(channels, width, 3, padding=2, dilation=draw(st.integers(1, 2))), width
        case "grouped":
            layer = binary(channels, 2 * channels, 3, padding="same", groups=channels)
            return layer, 2 * channels
        case "depthwise":
            return nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), groups=channels, bias=False), channels
        case "norm":
            return randomized_norm(channels), channels
        case "clip":
            return draw(st.sampled_from([nn.Hardtanh(inplace=True), nn.ReLU6(), nn.Hardtanh(-0.5, 2.0)])), channels
        case "function":
            functions = [lambda x: -x, lambda x: x.clamp(-0.5, 1)]
            return Lambda(draw(st.sampled_from([*functions, lambda x: torch.cat([x], 1)]))), channels
        case "relu":
            return nn.ReLU(), channels
        case "prelu":
            return nn.PReLU(
                draw(st.sampled_from([1, channels])), init=draw(st.sampled_from([0.25, -0.5, 0.0]))
            ), channels
        case "max":
            return nn.MaxPool2d(3, 2, 1, ceil_mode=draw(st.booleans())), channels
        case "average":
            pad = draw(st.booleans())
            return nn.AvgPool2d(2, 1, padding=1, ceil_mode=draw(st.booleans()), count_include_pad=pad), channels
        case "pad":
            return Lambda(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))), channels + 3
        case "stride":
            return Lambda(lambda x: x[:, :, ::2, ::2]), channels
        case "cat":
            return Concatenation(nn.Identity(), nn.ReLU(), randomized_norm(channels)), 3 * channels
        case "resize":
            return nn.Upsample(size=(draw(st.integers(1, 7)), size)), channels
        case "shift":
            shift, activation, sign = torch.randn(channels, 1, 1), RPReLU(channels), RSign(channels)
            for parameter in (*activation.parameters(), *sign.parameters()):
                nn.init.normal_(parameter)
            body = nn.Sequential(
                binary(channels, channels, 3, padding=1, input_quantizer=sign), randomized_norm(channels)
            )
            return draw(
                st.sampled_from([Lambda(lambda x: x + shift), activation, Residual(body, activation, True)])
            ), channels
        case "arithmetic":
            numbers = torch.randn(channels, 1, 1)
            return Lambda(lambda x: (2 - x * numbers) / 3 + numbers), channels
        case _:
            body = nn.Sequential(binary(channels, channels, 3, padding=1), randomized_norm(channels))
            shortcut = draw(st.sampled_from([nn.Identity(), nn.AvgPool2d(3, 1, 1)]))
            return Residual(body, shortcut, draw(st.booleans())), channels


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels = draw(st.integers(1, 4))
    x = torch.randn(3, channels, draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    layers: list[nn.Module] = []
    y = x
    for _ in range(draw(st.integers(1, 6))):
        layer, channels = draw_layer(draw, y.shape[1], y.shape[3])
        candidate = nn.Sequential(*layers, layer).eval()
        if channels > 40 or min(y.shape[2:]) < 2:
            break
        layers.append(layer)
        with torch.no_grad():
            y = candidate(x)
    ending = draw(st.sampled_from(["map", "flatten", "binary linear", "global"]))
    if ending == "flatten":
        layers += [nn.Flatten(), nn.Linear(y[0].numel(), 5)]
    elif ending == "binary linear":
        layers += [nn.Flatten(), BinaryLinear(y[0].numel(), 5, stage="binary", bias=True)]
    elif ending == "global":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(y.shape[1]), nn.Linear(y.shape[1], 5)]
    return nn.Sequential(*layers, nn.Identity()).eval(), x


@given(network=networks())
@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_packed_programs_compute_what_torch_does(network: tuple[nn.Module, Tensor]) -> None:
    model, x = network
    graph = lower(model, x)
    channels = graph.input_shape[0]
    program = pack_graph(graph, mean=(0.0,) * channels, std=(1.0,) * channels, classes=())
    again = read_program(write_program(program))
    assert [op.shape for op in again.operations] == [op.shape for op in program.operations]
    report = verify(model, again, x)
    assert report.wrong_sums == 0
    # A value that torch and NumPy round to different sides of zero flips a bit; it must have been that close.
    assert report.largest_flipped < 1e-5
    assert report.logit_difference < 1e-4


@given(
    multiplier=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8),
    data=st.data(),
    largest=st.integers(1, 300),
)
@settings(max_examples=300)
def test_thresholds_are_exactly_the_float32_comparison(
    multiplier: list[float], data: st.DataObject, largest: int
) -> None:
    scale = np.array(multiplier, np.float32)
    offset = np.array([data.draw(st.floats(-500, 500, width=32)) for _ in multiplier], np.float32)
    threshold, flip = integer_thresholds(scale, offset, largest)
    sums = np.arange(-largest, largest + 1, dtype=np.int32)[:, None]
    expected = sums.astype(np.float32) * scale + offset >= 0
    assert np.array_equal((sums >= threshold) != flip, expected)


@pytest.mark.parametrize("seed", range(3))
def test_zero_and_negative_scales_survive_folding(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        binary(4, 16, 3, padding=1), randomized_norm(16), nn.Hardtanh(), binary(16, 8, 3), randomized_norm(8)
    ).eval()
    x = torch.randn(4, 4, 6, 6)
    graph = lower(model, x)
    assert [node.operation for node in graph.nodes] == ["elementwise", "binary_convolution", "binary_convolution"]
    assert set(graph.nodes[1].tensors) == {"weight", "threshold", "flip"}
    program = pack_graph(graph, mean=(0.0,) * 4, std=(1.0,) * 4, classes=())
    report = verify(model, program, x)
    assert report.problems() == []
    assert report.flipped_bits == 0
