from __future__ import annotations

import pytest
import torch

from biper import create_model, summarize
from biper.analysis.summary import model_sizes
from biper.errors import DataError, ModelError
from biper.nn import binary_layers


@pytest.mark.parametrize(
    ("dataset", "name", "millions", "binary"),
    [
        ("cifar10", "resnet18", 11.01, 16),
        ("cifar10", "resnet20", 0.27, 18),
        ("cifar10", "vgg_small", 4.66, 5),
        ("imagenet", "resnet18", 11.69, 16),
        ("imagenet", "resnet34", 21.81, 32),
    ],
)
def test_parameters_are_those_of_the_published_table(dataset: str, name: str, millions: float, binary: int) -> None:
    model = create_model(name, dataset=dataset)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == pytest.approx(millions, abs=0.011)
    assert len(binary_layers(model)) == binary


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg_small", "digits_cnn"])
@pytest.mark.parametrize("bits", ["W1A1", "W1A32", "W32A32"])
def test_any_classes_and_any_image_size(name: str, bits: str) -> None:
    model = create_model(name, dataset="cifar100", num_classes=7, bits=bits).eval()
    for size in ((32, 32), (17, 23), (64, 40)):
        assert model(torch.randn(2, 3, *size)).shape == (2, 7)
    assert bool(binary_layers(model)) == (bits != "W32A32")


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_imagenet_networks_take_any_image_size(name: str) -> None:
    model = create_model(name, dataset="imagenet", num_classes=7).eval()
    for size in ((64, 64), (97, 33)):
        assert model(torch.randn(2, 3, *size)).shape == (2, 7)


def test_default_classes_and_channels_are_the_data_sets() -> None:
    assert create_model("resnet20", dataset="cifar100").fc.out_features == 100
    assert create_model("digits_cnn", dataset="digits").conv1.in_channels == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "resnet19", "dataset": "cifar10"}, ModelError, "did you mean 'resnet18'"),
        ({"name": "resnet18", "dataset": "cifar11"}, DataError, "did you mean 'cifar10"),
        ({"name": "resnet18", "dataset": "cifar10", "bits": "W2A2"}, ModelError, "bits must be one of W1A1"),
        ({"name": "resnet18", "dataset": "cifar10", "num_classes": 0}, ModelError, "at least 1"),
    ],
)
def test_what_does_not_exist_is_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_model(**arguments)


def test_summary_counts_by_hand() -> None:
    """The stem and one binary layer of ResNet-20 on 32x32 images, counted by hand."""
    model = create_model("resnet20", dataset="cifar10")
    layers = {layer.name: layer for layer in summarize(model, (3, 32, 32))}
    stem, first = layers["conv1"], layers["groups.0.0.conv1"]
    assert stem.multiply_accumulates == 32 * 32 * 16 * 27
    assert (stem.weight_bits, stem.input_bits, stem.packed_bytes) == (32, 32, 4 * 16 * 27)
    assert first.multiply_accumulates == 32 * 32 * 16 * 144
    assert (first.weight_bits, first.input_bits) == (1, 1)
    assert first.packed_bytes == 16 * 144 // 8 + 16 * 4
    sizes = model_sizes(model)
    assert sizes["packed_bytes"] == sum(layer.packed_bytes for layer in layers.values())
    assert sizes["packed_bytes"] < 55_000
    assert model.training
