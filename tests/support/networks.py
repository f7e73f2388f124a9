"""Whole networks for tests of exporting."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import biper
from biper.runtime.program import Program
from biper.runtime.reader import read_program


def trained_like(name: str, dataset: str, bits: str = "W1A1") -> nn.Module:
    """A network in stage 2 whose batch norms have statistics of random images."""
    model = biper.set_stage_(biper.create_model(name, dataset=dataset, bits=bits), "binary")
    channels = 1 if dataset == "digits" else 3
    size = {"digits": 8, "cifar10": 32, "imagenet": 64}[dataset]
    for _ in range(3):
        model(torch.randn(8, channels, size, size))
    return model.eval()


def packed_network(folder: Path, name: str, dataset: str, bits: str = "W1A1", float_layers: str = "float32") -> Program:
    """The program of a `trained_like` network, packed on random images."""
    model = trained_like(name, dataset, bits)
    size = 8 if dataset == "digits" else 32
    example = torch.randn(4, 1 if dataset == "digits" else 3, size, size)
    biper.export(model, folder / "network.biper", example, float_layers=float_layers)
    return read_program(folder / "network.biper")
