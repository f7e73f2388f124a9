"""A small vision transformer with binary linear layers: made binary, trained on the digits, packed and compared.

    python examples/vision_transformer.py [--out runs/transformer]

The network is plain torch. `biper.binarize_` keeps the patch embedding and the classifier real, and makes the linear
layers of attention and of the perceptrons binary.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import biper
from biper.data.transforms import normalize


class Attention(nn.Module):
    """Self-attention of tokens (N, T, width) with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, T, width)."""
        split = [
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        ]
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        result: Tensor = self.out(mixed)
        return result


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.second = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, T, width)."""
        x = x + self.attention(self.first(x))
        result: Tensor = x + self.perceptron(self.second(x))
        return result


class VisionTransformer(nn.Module):
    """Patches of 2 x 2 pixels of an 8 x 8 image become 16 tokens; the mean of the tokens is classified."""

    def __init__(self, width: int = 64, blocks: int = 2, heads: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(1, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.classifier = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) to (N, classes)."""
        tokens = self.embedding(x).flatten(2).transpose(1, 2) + self.positions
        result: Tensor = self.classifier(self.norm(self.blocks(tokens)).mean(1))
        return result


def main() -> None:
    """Make the network binary on pictures of the data, train it, and pack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transformer"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    dataset = biper.load_dataset("digits")
    examples = normalize(dataset.split("train").first(64), dataset.spec.mean, dataset.spec.std)
    model = VisionTransformer()
    print(biper.binarize_(model, example=examples))
    result = biper.fit(model, dataset, out=options.out, device="cpu", overrides=[f"seed={options.seed}", *options.set])
    print(f"test accuracy of the last epoch: {result.summary.final.score.accuracy:.2%}")
    print(result)


if __name__ == "__main__":
    main()
