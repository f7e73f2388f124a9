"""Binary layers whose batch is merged with windows or channels, or stands behind the sequence, are packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import biper
from biper import BinaryConv2d, BinaryLinear


class WindowAttention(nn.Module):
    """Attention within windows of 4 tokens, whose axis is merged with the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.projection = BinaryLinear(8, 24), BinaryLinear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        windows = x.flatten(2).transpose(1, 2).reshape(count * 4, 4, 8)
        q, k, v = self.qkv(windows).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed).reshape(count, 16, 8).mean(1)


class SequenceFirst(nn.Module):
    """A layer that gets its tokens with the batch as second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)
        return self.layer(tokens).mean(0)


class EachChannel(nn.Module):
    """A convolution that sees every pair of channels as an image of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryConv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.reshape(-1, 2, *x.shape[2:])
        return self.layer(pairs).reshape(len(x), -1, *x.shape[2:]).mean((2, 3))


class ReadsItsLayers(nn.Module):
    """A network whose forward pass reads attributes of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = BinaryConv2d(8, 8, 3, padding=1), BinaryLinear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert self.layer.kernel_size == (3, 3)
        assert self.layer.out_channels == self.last.in_features
        return self.last(self.layer(x).mean((2, 3)).to(self.last.weight.dtype))


@pytest.mark.parametrize("network", [WindowAttention, SequenceFirst, EachChannel, ReadsItsLayers])
def test_the_packed_network_computes_what_torch_does(network: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network().eval()
    biper.set_stage_(model, "binary")
    report = biper.export(model, tmp_path / "model.biper", torch.randn(3, 8, 4, 4))
    assert report.wrong_sums == 0
    assert report.sums > 0
    assert report.engine_images == 3
