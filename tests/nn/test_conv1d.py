"""`BinaryConv1d` against torch's convolution of the quantized tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from biper import BinaryConv1d, BinaryConv2d
from biper.errors import ModelError


@given(data=st.data())
@settings(max_examples=60)
def test_any_geometry_is_that_of_torch(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from([0, 1, 2, "same", "valid", "causal"]))
    mode = "zeros" if padding == "causal" else draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    stride = 1 if padding == "same" else draw(st.integers(1, 3))
    torch.manual_seed(draw(st.integers(0, 1000)))
    layer = BinaryConv1d(inputs, outputs, kernel, stride, padding, dilation, groups, True, mode).double()
    layer.scale.data.normal_()
    x = torch.randn(2, inputs, draw(st.integers(16, 24)), dtype=torch.float64, requires_grad=True)
    y = layer(x)

    bits = layer.input_quantizer(x.unsqueeze(2)).squeeze(2)
    pads = {
        "causal": [dilation * (kernel - 1), 0],
        "valid": [0, 0],
        "same": [dilation * (kernel - 1) // 2, dilation * (kernel - 1) - dilation * (kernel - 1) // 2],
    }.get(str(padding), [padding, padding])
    padded = F.pad(bits, pads, mode="constant" if mode == "zeros" else mode)
    plain = F.conv1d(padded, layer.weight_quantizer(layer.weight), None, stride, 0, dilation, groups)
    expected = plain * layer.scale.view(-1, 1) + layer.bias.view(-1, 1)
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(y)
    tensors = [x, layer.weight, layer.scale, layer.bias]
    for got, wanted in zip(
        torch.autograd.grad(y, tensors, direction), torch.autograd.grad(expected, tensors, direction), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_a_causal_output_depends_on_no_later_input() -> None:
    layer = BinaryConv1d(2, 3, 4, padding="causal", dilation=2).eval()
    x = torch.randn(1, 2, 20)
    changed = x.clone()
    changed[:, :, 12:] = -changed[:, :, 12:]
    assert layer(x).shape == (1, 3, 20)
    assert torch.equal(layer(x)[:, :, :12], layer(changed)[:, :, :12])
    assert not torch.equal(layer(x)[:, :, 12:], layer(changed)[:, :, 12:])


def test_a_signal_is_an_image_of_height_one() -> None:
    signal = BinaryConv1d(3, 4, 3, padding=1)
    image = BinaryConv2d(3, 4, (1, 3), padding=(0, 1))
    image.weight.data = signal.weight.data.unsqueeze(2)
    x = torch.randn(2, 3, 10)
    torch.testing.assert_close(signal(x), image(x.unsqueeze(2)).squeeze(2))
    torch.testing.assert_close(signal(x[0]), signal(x[:1])[0])


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"BinaryConv1d expected input \(N, 3, L\), got shape \(2, 4, 10\)"):
        BinaryConv1d(3, 4, 3)(torch.randn(2, 4, 10))
