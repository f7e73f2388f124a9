"""A signal on a microcontroller: a 1-D network in plain torch becomes 1-bit, is trained, packed and written as C.

    python examples/signals.py FOLDER/JapaneseVowels_eq [--out runs/vowels]

FOLDER/NAME stands for NAME_TRAIN.ts and NAME_TEST.ts of the UCR / UEA archive (https://www.timeseriesclassification.com),
or for your own NAME.npz (docs/guides/own-data.md). With --float the same network is trained in full precision, with the
same recipe, to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

import biper
from biper.targets.deploy import deploy, open_program


def network(channels: int, classes: int, width: int = 64) -> nn.Module:
    """Three convolutions over time and the mean over time: (N, channels, L) to (N, classes), for any L."""
    layers: list[nn.Module] = []
    for inputs in (channels, width, width):
        layers += [nn.Conv1d(inputs, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, classes))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/signals"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float", action="store_true", dest="real", help="train in full precision, and write no C")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    data = biper.load_dataset("signals", options.data)
    channels, length = data.spec.shape()
    batch = min(32, len(data.split("train")) // 5)
    changes = [f"seed={options.seed}", f"data.batch_size={batch}", f"model.bits={'W32A32' if options.real else 'W1A1'}"]
    model = network(channels, len(data.classes))
    result = biper.fit(
        model, data, out=options.out, device="cpu", pack=not options.real, overrides=[*changes, *options.set]
    )
    final = result.summary.final.score
    right = round(final.accuracy * result.summary.scored_images)
    print(
        f"{channels} x {length} samples, {len(data.classes)} classes: {right} of {result.summary.scored_images} right"
    )
    if not options.real:
        _, text = deploy(open_program(result.folder / "model.biper"), "c", result.folder / "network.c")
        print(text)


if __name__ == "__main__":
    main()
