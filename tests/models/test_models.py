from __future__ import annotations

import pytest
import torch
from torch import nn

from biper import create_model, summarize
from biper.errors import DataError, ModelError
from biper.measure.size import model_sizes
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


@pytest.mark.parametrize(
    ("dataset", "name", "blocks", "widths"),
    [
        ("cifar10", "resnet20", (3, 3, 3), (16, 32, 64)),
        ("cifar10", "resnet18", (2, 2, 2, 2), (64, 128, 256, 512)),
        ("cifar10", "resnet18a", (2, 2, 2, 2), (32, 32, 64, 128)),
        ("cifar10", "resnet18a_bi_real", (2, 2, 2, 2), (32, 32, 64, 128)),
        ("cifar10", "resnet18b_bi_real", (2, 2, 2, 2), (32, 64, 128, 256)),
        ("cifar10", "resnet18b", (2, 2, 2, 2), (32, 64, 128, 256)),
        ("cifar10", "resnet18c", (2, 2, 2, 2), (64, 64, 128, 256)),
        ("cifar10", "resnet34", (3, 4, 6, 3), (64, 128, 256, 512)),
        ("imagenet", "resnet18", (2, 2, 2, 2), (64, 128, 256, 512)),
        ("imagenet", "resnet34", (3, 4, 6, 3), (64, 128, 256, 512)),
    ],
)
def test_resnets_have_their_depth_and_width(
    dataset: str, name: str, blocks: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    model = create_model(name, dataset=dataset)
    assert tuple(len(group) for group in model.groups) == blocks
    for group, width in zip(model.groups, widths, strict=True):
        assert {conv.out_channels for block in group for conv in (block.conv1, block.conv2)} == {width}
    assert (model.conv1.out_channels, model.fc.in_features) == (widths[0], widths[-1])


def test_mobilenet_has_its_layout() -> None:
    model = create_model("mobilenet", dataset="imagenet")
    strides = [block.conv1.stride[0] for block in model.blocks]
    assert [number for number, stride in enumerate(strides, 1) if stride == 2] == [2, 4, 6, 12]
    assert [block.conv3.out_channels for block in model.blocks] == [64, 128, 128, 256, 256] + [512] * 6 + [1024] * 2
    assert {block.conv1.weight.shape[1] for block in model.blocks} == {16}
    assert (model.conv1.out_channels, model.conv1.stride) == (32, (2, 2))


@pytest.mark.parametrize("name", ["resnet18", "resnet18a", "resnet18a_bi_real", "resnet20", "vgg_small", "digits_cnn"])
@pytest.mark.parametrize("bits", ["W1A1", "W1A32", "W32A32"])
def test_any_classes_and_any_image_size(name: str, bits: str) -> None:
    model = create_model(name, dataset="cifar100", num_classes=7, bits=bits).eval()
    for size in ((32, 32), (17, 23), (64, 40)):
        assert model(torch.randn(2, 3, *size)).shape == (2, 7)
    assert bool(binary_layers(model)) == (bits != "W32A32")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_imagenet_networks_take_any_image_size(name: str) -> None:
    model = create_model(name, dataset="imagenet", num_classes=7).eval()
    for size in ((64, 64), (97, 33)):
        assert model(torch.randn(2, 3, *size)).shape == (2, 7)


@pytest.mark.parametrize(("bits", "activation"), [("W1A1", nn.Hardtanh), ("W1A32", nn.ReLU), ("W32A32", nn.Hardtanh)])
def test_relu_stands_where_only_the_weights_are_binary(bits: str, activation: type[nn.Module]) -> None:
    for name in ("resnet20", "resnet18", "vgg_small", "digits_cnn"):
        kinds = {type(module) for module in create_model(name, dataset="cifar10", bits=bits).modules()}
        assert kinds & {nn.Hardtanh, nn.ReLU} == {activation}


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
    assert sizes.packed_bytes == sum(layer.packed_bytes for layer in layers.values())
    assert sizes.packed_bytes < 55_000
    assert model.training
