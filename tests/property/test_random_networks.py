"""Random small networks of operators of all kinds, on images, signals and tokens, compute what torch does when packed.

A network is a list of steps. Each step reads one of the values that are there, in any shape with the batch first, and
makes another; some steps read two. The shapes are tracked by running torch.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinaryConv1d, BinaryConv2d, BinaryLinear
from biper.lowering.lower import lower
from biper.lowering.pack import pack_graph
from biper.lowering.verify import FLIP_TOLERANCE, verify
from biper.runtime.program import write_program
from biper.runtime.reader import read_program

Function = Callable[..., Tensor]

ANY: dict[str, Function] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.5, 1),
    "abs": torch.abs,
    "negative": torch.neg,
    "sin": torch.sin,
    "atan": torch.atan,
    "sorted": lambda x: x.sort(-1)[0],
    "largest": lambda x: x.topk(min(2, x.shape[1]), 1)[0],
    "square": lambda x: x * x.tanh(),
    "affine": lambda x: 2 - x * 0.5,
    "quotient": lambda x: x / (x.abs() + 1),
    "scaled": lambda x: x / 3 + 0.1,
    "softmax": lambda x: x.softmax(-1),
    "softmax of channels": lambda x: x.log_softmax(1),
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "row mean": lambda x: x - x.mean(-1, keepdim=True),
    "channel maximum": lambda x: x * x.amax(1, keepdim=True).tanh(),
    "cumulative": lambda x: x.cumsum(-1),
    "flip": lambda x: x.flip(-1),
    "roll": lambda x: x.roll(1, 1),
    "pad": lambda x: F.pad(x, (1, 2)),
    "first half": lambda x: x[:, : max(x.shape[1] // 2, 1)],
    "every other": lambda x: x[..., ::2],
    "chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
    "swap": lambda x: x.transpose(1, -1),
    "repeat": lambda x: x.repeat_interleave(2, 1),
    "by constants": lambda x: x * torch.linspace(0.5, 1, x.shape[-1]),
    "spread": lambda x: x + torch.linspace(-1, 1, x.shape[1]).view(-1, *[1] * (x.dim() - 2)),
    "stack": lambda x: torch.stack([x, x + 1], 1).flatten(1, 2),
    "gate": lambda x: x * x.mean(tuple(range(2, x.dim())) or (1,), keepdim=True).sigmoid(),
}
"""Functions of a value of any shape with at least one axis beside the batch."""

MAPS: dict[str, Function] = {
    "maximum": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average": lambda x: F.avg_pool2d(x, 2, 1, 1),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "global": lambda x: F.adaptive_max_pool2d(x, 1),
    "reflect": lambda x: F.pad(x, (1, 0, 0, 1), mode="replicate"),
    "zeros": lambda x: F.pad(x, (1, 1, 0, 1)),
    "nearest": lambda x: F.interpolate(x, scale_factor=1.5),
    "bilinear": lambda x: F.interpolate(x, size=(5, 6), mode="bilinear"),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "columns": lambda x: x.mean(2),
    "windows": lambda x: F.unfold(x, 2, padding=1, stride=2),
    "rows apart": lambda x: x.reshape(-1, 1, *x.shape[2:]).relu().view_as(x),
    "instance norm": F.instance_norm,
    "group norm": lambda x: F.group_norm(x, 1),
    "vector": lambda x: x.mean((2, 3)),
    "parts": lambda x: F.max_pool2d(x.reshape(-1, 1, *x.shape[2:]), 2, 1, 1).reshape(
        len(x), -1, x.shape[2] + 1, x.shape[3] + 1
    ),
}
"""Functions of images (N, C, H, W)."""

SIGNALS: dict[str, Function] = {
    "maximum": lambda x: F.max_pool1d(x, 3, 2, 1),
    "average": lambda x: F.adaptive_avg_pool1d(x, 3),
    "linear": lambda x: F.interpolate(x, size=7, mode="linear"),
    "as an image": lambda x: x.unsqueeze(1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "product": lambda x: x @ x.transpose(1, 2) * 0.2,
    "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "flat": lambda x: x.flatten(1),
    "turned": lambda x: x.transpose(1, 2),
    "as images": lambda x: x.reshape(len(x), -1, 1, 1),
    "last": lambda x: x[:, :, -1],
    "sequence first": lambda x: (x.transpose(0, 1) * 2).transpose(0, 1),
}
"""Functions of signals and tokens (N, A, B)."""

VECTORS: dict[str, Function] = {
    "outer": lambda x: x[:, :, None] * x[:, None, :8],
    "image": lambda x: x[:, :, None, None].expand(-1, -1, 3, 4),
    "signal": lambda x: x.unsqueeze(-1),
}
"""Functions of vectors (N, F)."""

TWO: dict[str, Function] = {
    "sum": torch.add,
    "difference": torch.sub,
    "product": lambda a, b: a * b.tanh(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "quotient": lambda a, b: a / (b.abs() + 1),
    "beside": lambda a, b: torch.cat([a, b.expand_as(a)], 1),
    "choice": lambda a, b: torch.where(a > b, a, b * 0.3),
}
"""Functions of two values, the second of which broadcasts to the shape of the first."""


def layers_for(shape: torch.Size) -> list[str]:
    """The kinds of layers with weights that read a shape."""
    names = ["linear", "binary linear"]
    if len(shape) == 4:
        names += ["convolution", "binary convolution", "binary convolution", "depthwise", "transposed", "batch norm"]
    if len(shape) == 3:
        names += ["signal", "binary signal", "signal transposed", "sequence first", "batch norm"]
    return names


class SequenceFirst(nn.Module):
    """A layer that gets its input with the batch behind the sequence."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


def make_layer(kind: str, shape: torch.Size, draw: st.DrawFn) -> nn.Module:
    """A layer with random weights for an input of this shape."""
    width, stride = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    channels, features = shape[1], shape[-1]
    match kind:
        case "linear":
            return nn.Linear(features, width)
        case "binary linear":
            return BinaryLinear(features, width, stage="binary", bias=draw(st.booleans()))
        case "sequence first":
            return SequenceFirst(BinaryLinear(features, width, stage="binary"))
        case "convolution":
            return nn.Conv2d(channels, width, 3, stride, padding=2, dilation=draw(st.integers(1, 2)))
        case "binary convolution":
            return BinaryConv2d(channels, width, 3, stride, padding=1, bias=draw(st.booleans()), stage="binary")
        case "depthwise":
            return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        case "transposed":
            return nn.ConvTranspose2d(channels, width, 2, 2)
        case "signal":
            return nn.Conv1d(channels, width, 3, stride, padding=1)
        case "binary signal":
            padding = draw(st.sampled_from(["causal", 1])) if stride == 1 else 1
            return BinaryConv1d(channels, width, 3, stride, padding=padding, stage="binary")
        case "signal transposed":
            return nn.ConvTranspose1d(channels, width, 3, 2, 1)
        case _:
            norm = nn.BatchNorm2d(channels) if len(shape) == 4 else nn.BatchNorm1d(channels)
            nn.init.normal_(norm.weight)
            norm.running_mean.normal_()
            return norm


class Network(nn.Module):
    """Steps of a name, a function and the numbers of the values that it reads; the last value is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, Function | None, tuple[int, ...]]] = []
        self.layers = nn.ModuleDict()

    def add(self, name: str, function: Function, reads: tuple[int, ...]) -> None:
        if isinstance(function, nn.Module):  # called through its parent, in which export replaces binary layers
            self.layers[str(len(self.steps))] = function
        self.steps.append((name, None if isinstance(function, nn.Module) else function, reads))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for number, (_, function, reads) in enumerate(self.steps):
            called = self.layers[str(number)] if function is None else function
            values.append(called(*(values[read] for read in reads)))
        return values[-1]

    def __repr__(self) -> str:
        return "; ".join(f"{name}{reads}" for name, _, reads in self.steps)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, Tensor]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.sampled_from([(3, 4, 6, 5), (3, 8, 4, 4), (3, 6, 9), (3, 5, 8), (3, 12)]))
    x = torch.randn(shape)
    network = Network().eval()
    values = [x]
    for _ in range(draw(st.integers(2, 8))):
        number = draw(st.integers(max(0, len(values) - 2), len(values) - 1))
        value = values[number]
        tables = {2: VECTORS, 3: SIGNALS, 4: MAPS}.get(value.dim(), {})
        kinds = ["any", "layer", *(["shaped"] if tables else []), "two"]
        kind = draw(st.sampled_from(kinds))
        reads: tuple[int, ...] = (number,)
        if kind == "layer":
            name = draw(st.sampled_from(layers_for(value.shape)))
            function: Function = make_layer(name, value.shape, draw).eval()
        else:
            table = {"any": ANY, "shaped": tables, "two": TWO}[kind]
            name = draw(st.sampled_from(sorted(table)))
            function = table[name]
        if kind == "two":
            fitting = [index for index, other in enumerate(values) if _broadcasts(other.shape, value.shape)]
            reads = (number, draw(st.sampled_from(fitting)))
        try:
            with torch.no_grad():
                made = function(*(values[index].clone() for index in reads))
        except (RuntimeError, ValueError, IndexError):  # the shape is too small for this function
            continue
        if made.dim() < 2 or len(made) != len(x) or not 0 < made.numel() < 6000:
            continue
        if not 1e-3 < made.abs().max() < 1e3:  # signs of numbers that are rounding alone say nothing
            continue
        network.add(name, function, reads)
        values.append(made)
    return network, x


def _broadcasts(shape: torch.Size, target: torch.Size) -> bool:
    return len(shape) == len(target) and all(a in (1, b) for a, b in zip(shape, target, strict=True))


def require_packed(network: Network, x: Tensor) -> None:
    graph = lower(network, x)
    channels = graph.input_shape[0]
    program = pack_graph(graph, mean=(0.0,) * channels, std=(1.0,) * channels, classes=())
    report = verify(network, read_program(write_program(program)), x)
    assert report.wrong_sums == 0
    assert report.largest_flipped <= FLIP_TOLERANCE
    assert report.problems() == []


@given(case=networks())
@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_random_networks_compute_what_torch_does(case: tuple[Network, Tensor]) -> None:
    require_packed(*case)


@pytest.mark.slow
@given(case=networks())
@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
def test_many_random_networks_compute_what_torch_does(case: tuple[Network, Tensor]) -> None:
    require_packed(*case)
