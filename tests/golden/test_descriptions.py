"""Every network of the authors against a description in plain torch that reads a state dict with their names.

The descriptions check the order of operations and the names of all entries, also for networks without recorded numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from support.filled import filled_state_dict
from support.formulas import plain_input_bits, plain_weight
from torch import Tensor
from torch.nn import functional as F

from biper import interop, periodic_penalty

TAU = 0.037


class Description:
    """The layers and networks of the authors as functions that look up their entries in a state dict by name."""

    def __init__(self, state: dict[str, Tensor], stage: int, training: bool) -> None:
        self.state, self.stage, self.training = state, stage, training
        self.real_input = False
        self.activation: Callable[[Tensor], Tensor] = F.hardtanh

    def real(self, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], None, stride, padding)

    def binary(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        bits = x if self.real_input else plain_input_bits(x)
        y = F.conv2d(bits, plain_weight(weight, self.stage), None, stride, weight.shape[2] // 2, 1, groups)
        return y * self.state[f"{name}.alpha"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        entries = [self.state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = entries
        return F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, self.training)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def blocks(self, prefix: str) -> list[str]:
        """Return the names of the blocks of a layer, such as ``layer2.0``, in order."""
        found = (re.match(rf"{prefix}\.(\d+)\.conv1\.weight", name) for name in self.state)
        return [f"{prefix}.{number}" for number in sorted(int(match[1]) for match in found if match)]

    def cifar_resnet(self, x: Tensor, layers: int, bi_real: bool) -> Tensor:
        x = self.norm("bn1", self.real("conv1", x))
        x = self.activation(x) if bi_real else x
        for layer in range(1, layers + 1):
            for position, block in enumerate(self.blocks(f"layer{layer}")):
                stride = 2 if layer > 1 and position == 0 else 1
                y = self.norm(f"{block}.bn1", self.binary(f"{block}.conv1", x, stride))
                shortcut = F.avg_pool2d(x, stride)
                added = y.shape[1] - x.shape[1]
                shortcut = F.pad(shortcut, (0, 0, 0, 0, added // 2, added // 2))
                y = self.activation(y + shortcut if bi_real else y)
                z = self.norm(f"{block}.bn2", self.binary(f"{block}.conv2", y))
                x = self.activation(z + (y if bi_real else shortcut))
        return self.linear("linear", self.norm("bn2", x.mean((2, 3))))

    def imagenet_resnet(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm("bn1", self.real("conv1", x, 2, 3)))
        x = F.max_pool2d(x, 3, 2, 1)
        for layer in range(1, 5):
            for position, block in enumerate(self.blocks(f"layer{layer}")):
                shortcut, stride = x, 1
                if layer > 1 and position == 0:
                    stride = 2
                    shortcut = self.norm(f"{block}.downsample.1", self.real(f"{block}.downsample.0", x, 2, 0))
                x = self.activation(self.norm(f"{block}.bn1", self.binary(f"{block}.conv1", x, stride)) + shortcut)
                x = self.activation(self.norm(f"{block}.bn2", self.binary(f"{block}.conv2", x)) + x)
        return self.linear("fc", self.norm("bn2", x.mean((2, 3))))

    def vgg_small(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm("bn0", self.real("conv0", x)))
        for number in range(1, 6):
            x = self.binary(f"conv{number}", x)
            x = F.max_pool2d(x, 2) if number in (1, 3, 5) else x
            x = self.activation(self.norm(f"bn{number}", x))
        return self.linear("fc", x.flatten(1))

    def mobilenet(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm("model.0.1", self.real("model.0.0", x, 2)))
        for number, block in enumerate(self.blocks("model"), 1):
            stride = 2 if number in (2, 4, 6, 12) else 1
            y = self.norm(f"{block}.bn1", self.binary(f"{block}.conv1", x, stride, groups=x.shape[1] // 16))
            x = self.activation(y + F.avg_pool2d(x, stride, ceil_mode=True))
            x = self.activation(self.norm(f"{block}.bn2", self.binary(f"{block}.conv2", x)))
            x = self.activation(self.norm(f"{block}.bn3", self.binary(f"{block}.conv3", x)) + x)
        return self.linear("fc", x.mean((2, 3)))

    def run(self, model: str, dataset: str, x: Tensor) -> Tensor:
        if model == "resnet20_1w32a":
            self.activation, self.real_input = F.relu, True
        if dataset == "imagenet":
            return self.mobilenet(x) if model.startswith("mobilenet") else self.imagenet_resnet(x)
        if model.startswith("vgg"):
            return self.vgg_small(x)
        bi_real = model.startswith("resnet20")
        return self.cifar_resnet(x, 3 if bi_real else 4, bi_real)


LARGE = [("cifar10", "resnet18_1w1a"), ("cifar10", "resnet34_1w1a"), ("imagenet", "resnet18_1w1a")]
NETWORKS = [
    pytest.param(dataset, model, 1 + number % 2, marks=[pytest.mark.slow] if (dataset, model) in LARGE else [])
    for dataset in ("cifar10", "imagenet")
    for number, model in enumerate(interop.reference_models(dataset))
]


@pytest.mark.parametrize(("dataset", "model", "stage"), NETWORKS)
def test_network_is_what_its_description_says(dataset: str, model: str, stage: int) -> None:
    state = {name: value.double() for name, value in filled_state_dict(model, dataset).items()}
    network = interop.load_reference_state_dict(model, state, dataset=dataset, frequency=20, stage=stage)
    size = 16 if dataset == "cifar10" and model != "vgg_small_1w1a" else 32
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    labels = torch.tensor([1, 4, 7])
    expected = Description(state, stage, training=False).run(model, dataset, images)
    torch.testing.assert_close(network(images), expected, rtol=1e-10, atol=1e-9)

    network.train()
    logits = network(images)
    (F.cross_entropy(logits, labels) + periodic_penalty(network, TAU)).backward()
    ours = dict(network.named_parameters())
    names = {theirs: name for theirs, name in interop.reference_names(model, dataset=dataset).items() if name in ours}
    described = {name: value.requires_grad_(name in names) for name, value in state.items()}
    expected = Description(described, stage, training=True).run(model, dataset, images)
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-9)
    layers = [name.removesuffix(".alpha") for name in names if name.endswith(".alpha")]
    waves = [torch.sin(20 * described[f"{layer}.weight"]) for layer in layers]
    (F.cross_entropy(expected, labels) + TAU * sum(wave.square().mean() for wave in waves)).backward()
    assert set(names.values()) == set(ours)
    for theirs, name in names.items():
        gradient, wanted = ours[name].grad, described[theirs].grad
        largest = described[theirs.replace(".alpha", ".weight")].grad.abs().max()
        assert (gradient.reshape(wanted.shape) - wanted).abs().max() <= 1e-7 * largest, theirs
