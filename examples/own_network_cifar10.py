"""Make torchvision's form of ResNet-18 or MobileNetV2 binary, and train it on CIFAR-10.

    python examples/own_network_cifar10.py resnet18 --data data --out runs/resnet18

With --float the same network is trained in full precision, with the same recipe, to compare.
"""

from __future__ import annotations

import argparse

import torch
from networks import MobileNetV2, ResNet18
from torch import nn

import biper
from biper.data.transforms import normalize


def main() -> None:
    """Read the arguments, make the network binary on pictures of the data, train it and pack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("resnet18", "mobilenet_v2"))
    parser.add_argument("--data", help="folder of CIFAR-10; default the cache, into which it is downloaded once")
    parser.add_argument("--width", type=float, help="default 32 channels for resnet18, 0.5 for mobilenet_v2")
    parser.add_argument("--recipe", default="short", help="how to train")
    parser.add_argument("--out", default="runs/mine", help="the run folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--float", action="store_true", dest="real", help="train in full precision, and pack nothing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    options = parser.parse_args()

    torch.manual_seed(options.seed)

    if options.network == "resnet18":
        model: nn.Module = ResNet18(width=int(options.width or 32))
    else:
        model = MobileNetV2(width=options.width or 0.5)
    dataset = biper.load_dataset("cifar10", options.data)
    if not options.real:
        pictures = dataset.split("train").first(64)
        examples = normalize(pictures, dataset.spec.mean, dataset.spec.std)
        print(biper.binarize_(model, example=examples))
    changes = [f"seed={options.seed}", f"model.bits={'W32A32' if options.real else 'W1A1'}", *options.set]
    result = biper.fit(
        model,
        dataset,
        recipe=options.recipe,
        out=options.out,
        overrides=changes,
        pack=not options.real,
        resume=options.resume,
    )
    print(result)


if __name__ == "__main__":
    main()
