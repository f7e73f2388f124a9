"""Packs the networks that docs/results/index.md times. They are untrained: times do not depend on the weights.

    python benchmarks/packed_networks.py FOLDER

Writes cifar-resnet20, cifar-resnet18, imagenet-resnet18, and imagenet-resnet18-bfloat16 and -int8, whose layers that
stay real are in bfloat16 and int8. `biper.export` compares each with its model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import biper

NETWORKS = (
    ("cifar-resnet20", "resnet20", "cifar10", 32, "float32"),
    ("cifar-resnet18", "resnet18", "cifar10", 32, "float32"),
    ("imagenet-resnet18", "resnet18", "imagenet", 224, "float32"),
    ("imagenet-resnet18-bfloat16", "resnet18", "imagenet", 224, "bfloat16"),
    ("imagenet-resnet18-int8", "resnet18", "imagenet", 224, "int8"),
)


def write(folder: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
    """Write the networks of these names, or all, into a folder; returns their files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for file, name, dataset, size, float_layers in NETWORKS:
        if names is not None and file not in names:
            continue
        torch.manual_seed(0)
        model = biper.set_stage_(biper.create_model(name, dataset=dataset), "binary")
        images = torch.randn(8, 3, size, size)
        with torch.no_grad():
            for _ in range(3):  # gives batch norms statistics
                model(images)
        paths[file] = folder / f"{file}.biper"
        biper.export(model.eval(), paths[file], images, float_layers=float_layers)
    return paths


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for path in write(parser.parse_args().folder).values():
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
