"""The outputs and gradients of layers of any geometry against the plain formulas, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.formulas import plain_input_bits, plain_weight
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinaryConv2d, BinaryLinear


def check(layer: nn.Module, x: Tensor, stage: int, plain: object) -> None:
    layer.double().train()
    nn.init.normal_(layer.scale)  # some scales are negative
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y, expected = layer(ours), plain(theirs)
    torch.testing.assert_close(y, expected)
    upstream = torch.randn_like(y)
    parameters = list(layer.parameters())
    actual = torch.autograd.grad(y, [ours, *parameters], upstream)
    wanted = torch.autograd.grad(expected, [theirs, *parameters], upstream)
    for got, want in zip(actual, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch warns that the plain formula is slow
@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.just("same"), st.just("valid")),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(7, 10), st.integers(7, 10)),
    bias=st.booleans(),
    stage=st.sampled_from([1, 2]),
    channels_last=st.booleans(),
)
@settings(max_examples=150)
def test_convolution(
    seed: int,
    groups: int,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: int,
    size: tuple[int, int],
    bias: bool,
    stage: int,
    channels_last: bool,
) -> None:
    torch.manual_seed(seed)
    if padding == "same":
        stride = (1, 1)
    in_channels, out_channels = groups * channels[0], groups * channels[1]
    layer = BinaryConv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias, stage=stage)
    x = torch.randn(2, in_channels, *size, dtype=torch.float64)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)

    def plain(x: Tensor) -> Tensor:
        y = F.conv2d(plain_input_bits(x), plain_weight(layer.weight, stage), None, stride, padding, dilation, groups)
        y = y * layer.scale.view(-1, 1, 1)
        return y if layer.bias is None else y + layer.bias.view(-1, 1, 1)

    check(layer, x, stage, plain)


@given(
    seed=st.integers(0, 2**31),
    features=st.tuples(st.integers(2, 20), st.integers(1, 20)),
    batch=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    bias=st.booleans(),
    stage=st.sampled_from([1, 2]),
)
@settings(max_examples=60)
def test_linear(seed: int, features: tuple[int, int], batch: list[int], bias: bool, stage: int) -> None:
    torch.manual_seed(seed)
    layer = BinaryLinear(*features, bias=bias, stage=stage)
    x = torch.randn(*batch, features[0], dtype=torch.float64)

    def plain(x: Tensor) -> Tensor:
        y = F.linear(plain_input_bits(x), plain_weight(layer.weight, stage)) * layer.scale
        return y if layer.bias is None else y + layer.bias

    check(layer, x, stage, plain)
