"""Make torchvision's form of ResNet-18 or MobileNetV2 binary, and train it on CIFAR-10.

python examples/own_network_cifar10.py resnet18 --data data --out runs/resnet18
"""

from __future__ import annotations

import argparse

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
    options = parser.parse_args()

    if options.network == "resnet18":
        model: nn.Module = ResNet18(width=int(options.width or 32))
    else:
        model = MobileNetV2(width=options.width or 0.5)
    dataset = biper.load_dataset("cifar10", options.data)
    pictures = dataset.split("train").first(64)
    examples = normalize(pictures, dataset.spec.mean, dataset.spec.std)
    print(biper.binarize_(model, example=examples))
    print(biper.fit(model, dataset, recipe=options.recipe, out=options.out))


if __name__ == "__main__":
    main()
