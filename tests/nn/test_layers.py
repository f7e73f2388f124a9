"""`BinaryConv2d` and `BinaryLinear`: shapes, padding, precision, gradients and what they save for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinaryConv2d, BinaryLinear, create_model, set_stage_
from biper.errors import ModelError
from biper.nn import binary_layers
from biper.quantizers import ApproxSign, Stage, SteSign


def test_inputs_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(ModelError, match=r"expected input \(N, 3, H, W\), got shape \(2, 4, 8, 8\)"):
        BinaryConv2d(3, 8, 3)(torch.zeros(2, 4, 8, 8))
    with pytest.raises(ModelError, match=r"expected input \(N, 3\), got shape \(2, 4\)"):
        BinaryLinear(3, 8)(torch.zeros(2, 4))


def test_padding_adds_nothing() -> None:
    """With all weights and inputs +1, the sum counts the taps inside the image."""
    layer = BinaryConv2d(1, 1, 3, padding=1, stage="binary")
    nn.init.constant_(layer.weight, 0.01)
    nn.init.ones_(layer.scale)
    assert layer(torch.ones(1, 1, 3, 3)).flatten().tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_other_padding_modes_pad_the_bits(padding_mode: str) -> None:
    layer = BinaryConv2d(2, 3, 3, padding=1, padding_mode=padding_mode, stage="binary").double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    bits = torch.where(x >= 0, 1.0, -1.0).double()
    weight = torch.where(torch.sin(20 * layer.weight) >= 0, 1.0, -1.0).double()
    expected = F.conv2d(F.pad(bits, (1, 1, 1, 1), mode=padding_mode), weight) * layer.scale.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), expected)


def test_unbatched_inputs() -> None:
    conv, linear = BinaryConv2d(2, 3, 3), BinaryLinear(4, 5)
    x = torch.randn(2, 6, 6)
    torch.testing.assert_close(conv(x), conv(x.unsqueeze(0))[0])
    torch.testing.assert_close(linear(x[0, 0, :4]), linear(x[:1, 0, :4])[0])


def test_weights_alone_can_be_binary() -> None:
    layer = BinaryConv2d(2, 3, 3, input_quantizer=nn.Identity(), stage="binary")
    x = torch.randn(1, 2, 6, 6)
    weight = torch.where(torch.sin(20 * layer.weight) >= 0, 1.0, -1.0)
    torch.testing.assert_close(layer(x), F.conv2d(x, weight) * layer.scale.view(-1, 1, 1))


def test_other_quantizers_can_be_used() -> None:
    layer = BinaryLinear(6, 4, weight_quantizer=SteSign(), input_quantizer=ApproxSign())
    x = torch.randn(3, 6)
    signs = [torch.where(t >= 0, 1.0, -1.0) for t in (x, layer.weight)]
    torch.testing.assert_close(layer(x), F.linear(*signs) * layer.scale)


def test_gradcheck_of_the_smooth_part() -> None:
    """With relaxed weights and real inputs everything is smooth, so that finite differences must agree."""
    torch.manual_seed(0)
    conv = BinaryConv2d(4, 6, 3, 2, 1, groups=2, bias=True, frequency=3.0, input_quantizer=nn.Identity()).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)

    def apply(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        parameters = {"weight": weight, "scale": scale, "bias": bias}
        return torch.func.functional_call(conv, parameters, (x,))

    assert torch.autograd.gradcheck(apply, (x, conv.weight, conv.scale, conv.bias))


def test_convolution_saves_its_operands_and_not_its_output() -> None:
    layer = BinaryConv2d(4, 16, 3, padding=1)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = layer(x)
    sizes = sorted(t.numel() for t in saved)
    operands = [x.numel(), x.numel(), layer.weight.numel(), layer.weight.numel(), layer.scale.numel()]
    assert sizes == sorted([*operands, 2, 2])  # x and its bits, w and its wave, scale, two statistics a sample
    assert y.numel() not in sizes


def test_linear_saves_its_operands_and_not_its_output() -> None:
    layer = BinaryLinear(6, 11)
    x = torch.randn(4, 6, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x)
    assert sorted(t.numel() for t in saved) == sorted([24, 24, 66, 66, 11, 4, 4])


@pytest.mark.parametrize("layer", [BinaryConv2d(8, 8, 3, stage="binary"), BinaryLinear(6, 8, stage="binary")])
def test_mixed_precision_keeps_parameters_and_gradients_in_float32(layer: nn.Module) -> None:
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert {t.grad.dtype for t in (layer.weight, layer.scale, x)} == {torch.float32}
    plain = layer(x)
    torch.testing.assert_close(y.float(), plain, rtol=2e-2, atol=1e-2)


def test_set_stage_changes_every_layer_and_refuses_others() -> None:
    model = create_model("resnet20", dataset="cifar10")
    assert set_stage_(model, "binary") is model
    assert {layer.weight_quantizer.stage for layer in binary_layers(model).values()} == {Stage.BINARY}
    assert len(binary_layers(model)) == 18
    with pytest.raises(ModelError):
        set_stage_(model, 3)
